"""The paper's baseline: TPH-YOLOv5-x on VisDrone at 640², with CIoU.

    ugs data prepare visdrone --from FOLDER        # folder with the official zip files
    ugs compare visdrone_tph_yolov5x_640 visdrone_tph_yolov5x_640_ugs    # likewise at 1536

The environment variable VISDRONE is the folder of the data set, by default data/visdrone. A step takes 64 images, as in
the reference implementation. It needs these options:

    one GPU of 141 GB     none at 640²; `-- --accumulate 8` at 1536² (the reference accumulates too)
    eight such GPUs       none
    v5e:16x16             `-- --parallel.spatial 4`: four chips share an image

Settings of the reference: 80 epochs, Adam at 3e-4 with β₁ 0.843, warm-up over two epochs, a cosine decay to 0.12 of the
rate, mosaics with a fifth of them mixed (mixup), changes of colour and scale, and anchors that learn boxes of up to 3
times their sides. Settings that differ from the reference:

    weight decay   decoupled, 0.02, kernels only; reference: 0.00036 in the gradient, also on scales of LayerNorm
    loss weights   all 1, because the loss is one mean over positives (`LossWeights`); reference: 0.0525, 0.017 and 0.65
                   on sums of means
    gradients      clipped at a norm of 10; reference: not clipped
    anchors        fitted level by level; reference: AutoAnchor, with P2 and 1536² none under 11 px (docs/tph.md)
    averages, NMS  defaults of the library, with 500 detections in an image, as many as the benchmark counts

None of these settings was tuned, and baseline and UGS use the same.

No x network of TPH-YOLOv5 was published. This is the published `l-xs-tph` with the multiples of size x: Swin layers
before each of four heads, 86,549,055 parameters. (The network of 112.97 M parameters that others report is kind
`tph_cbam` in size x.)
"""

import os
from pathlib import Path

from data_pipeline import Augmentation, LoaderOptions, VisDrone
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment import AdamW, Experiment, LossWeights, Network, Schedule
from ugs_jax.objectives import BoxRegression

experiment = Experiment(
    name="TPH-YOLOv5-x 640²",
    data=VisDrone(Path(os.environ.get("VISDRONE", "data/visdrone"))),
    localization=BoxRegression(),
    network=Network(size="x", kind="tph", dtype="bfloat16"),
    loader=LoaderOptions(
        image_size=(640, 640),
        batch_size=64,
        max_boxes=1000,
        box_buckets=(250, 500),
        max_ignore=64,
        workers=8,
        augmentation=Augmentation(mosaic=1.0, mixup=0.2, hsv=(0.4, 0.3, 0.5), degrees=0.2, translate=0.0, scale=0.4),
    ),
    loss_weights=LossWeights(anchor_ratio_threshold=3.0),
    optimizer=AdamW(Schedule(learning_rate=3e-4, warmup_epochs=2.0, final=0.12), b1=0.843),
    postprocess=Postprocess(pre_nms_topk=3000, max_detections=500),
    epochs=80,
)
