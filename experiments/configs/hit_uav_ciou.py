"""CIoU regression on HIT-UAV (thermal drone images, 640×512), the baseline of the `hit_uav_*` family.

HIT_UAV=FOLDER ugs train hit_uav_ciou

FOLDER (data/hit_uav by default) holds images/, annotations/train.json and annotations/val.json in COCO format. The
defaults fit a CPU: half resolution, pico size. On a GPU: `--network.size n --loader.image-size 512 640`.
"""

import os
from pathlib import Path

from data_pipeline import Augmentation, CocoJson, LoaderOptions
from ugs_jax.detectors import Postprocess, Regression
from ugs_jax.training import AdamW, Ema, Experiment, Gains, Network, Schedule

_FOLDER = Path(os.environ.get("HIT_UAV", "data/hit_uav"))

experiment = Experiment(
    name="CIoU",
    data=CocoJson(
        train_images=_FOLDER / "images",
        train_json=_FOLDER / "annotations" / "train.json",
        val_images=_FOLDER / "images",
        val_json=_FOLDER / "annotations" / "val.json",
    ),
    localization=Regression(),
    network=Network(size="p", p2=True),
    loader=LoaderOptions(
        image_size=(256, 320),
        batch_size=4,
        max_boxes=64,
        max_ignore=16,
        augmentation=Augmentation(mosaic=0.0, hsv=(0.0, 0.0, 0.2), translate=0.05, scale=0.1, flip_ud=0.5),
    ),
    gains=Gains(ratio_limit=2.5),
    optimizer=AdamW(Schedule(learning_rate=1e-2, warmup_epochs=1.0)),
    ema=Ema(decay=0.99, ramp=100.0),
    postprocess=Postprocess(candidates=500, max_detections=300),
    epochs=12,
    evaluate_every=2,
)
