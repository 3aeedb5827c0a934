"""Baseline of the first run: CIoU regression on light synthetic scenes.

It takes minutes on a laptop CPU and needs no download. Train it with `ugs train first_light_ciou`, or together with UGS
with `ugs compare`.
"""

from data_pipeline import Augmentation, LoaderOptions, TinyScenes
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment import AdamW, Ema, Experiment, LossWeights, Network, Schedule
from ugs_jax.objectives import BoxRegression

experiment = Experiment(
    name="CIoU",
    data=TinyScenes(variant="light", image_size=(160, 160), train_images=512, val_images=128),
    localization=BoxRegression(),
    network=Network(size="p", p2=True),
    loader=LoaderOptions(
        image_size=(160, 160),
        batch_size=8,
        max_boxes=48,
        max_ignore=8,
        # Such a short run learns most from images with little augmentation.
        augmentation=Augmentation(mosaic=0.0, hsv=(0.0, 0.0, 0.1), translate=0.0, scale=0.0, flip_ud=0.5),
    ),
    loss_weights=LossWeights(box=3.0, anchor_ratio_threshold=2.5),
    optimizer=AdamW(Schedule(learning_rate=1e-2, warmup_epochs=1.0)),
    ema=Ema(decay=0.99, ramp=100.0),
    postprocess=Postprocess(pre_nms_topk=300, max_detections=100),
    epochs=6,
    evaluate_every=2,
)
