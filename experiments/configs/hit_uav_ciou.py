"""CIoU regression on HIT-UAV (thermal drone images, 640×512), the baseline of the `hit_uav_*` configs.

    HIT_UAV=FOLDER ugs train hit_uav_ciou

FOLDER (by default data/hit_uav) has images/, annotations/train.json and annotations/val.json in COCO format. Network,
optimizer and loss weights are those of `first_light_ciou`. The defaults suit a CPU: half the resolution, and a network
of size p. On a GPU, add `--network.size n --loader.image-size 512 640`.
"""

import os
from dataclasses import replace
from pathlib import Path

from data_pipeline import Augmentation, CocoJson, LoaderOptions
from experiments.configs.first_light_ciou import experiment as first_light
from ugs_jax.detectors import Postprocess

_FOLDER = Path(os.environ.get("HIT_UAV", "data/hit_uav"))

experiment = replace(
    first_light,
    data=CocoJson(
        train_images=_FOLDER / "images",
        train_json=_FOLDER / "annotations" / "train.json",
        val_images=_FOLDER / "images",
        val_json=_FOLDER / "annotations" / "val.json",
    ),
    loader=LoaderOptions(
        image_size=(256, 320),
        batch_size=4,
        max_boxes=64,
        max_ignore=16,
        # Objects are colder than the ground at night and warmer by day, and the two splits are from different days.
        augmentation=Augmentation(mosaic=0.0, hsv=(0.0, 0.0, 0.2), invert=0.5, translate=0.05, scale=0.1, flip_ud=0.5),
    ),
    postprocess=Postprocess(pre_nms_topk=500, max_detections=300),
    epochs=10,
)
