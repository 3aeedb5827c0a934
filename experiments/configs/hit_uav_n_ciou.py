"""CIoU on HIT-UAV from published weights: size n, P3 to P5, full resolution. It is the baseline of `hit_uav_n_ugs`.

    HIT_UAV=FOLDER WEIGHTS=yolov5n.pt ugs train hit_uav_n_ciou

FOLDER is that of `hit_uav_ciou`, and WEIGHTS is the published COCO checkpoint. SPLIT=by_sequence uses the split by
sequence that `python -m experiments.datasets.hit_uav_splits` writes. SPLIT=100 uses its training set of a hundred
images. A run of 24 epochs takes about three quarters of an hour on one CPU core.
"""

import os
from dataclasses import replace
from pathlib import Path

from experiments.configs.hit_uav_ciou import experiment as from_scratch
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment import AdamW, Ema, LossWeights, Network, Schedule

_SPLITS = Path(os.environ.get("HIT_UAV_SPLITS", from_scratch.data.train_json.parent))
_FILES = {
    "by_day": ("train", "val"),
    "by_sequence": ("train_by_sequence", "val_by_sequence"),
    "100": ("train_100", "val"),
}
_TRAIN, _VAL = _FILES[os.environ.get("SPLIT", "by_day")]

experiment = replace(
    from_scratch,
    name="CIoU, n",
    data=replace(
        from_scratch.data,
        train_json=(from_scratch.data.train_json.parent if _TRAIN == "train" else _SPLITS) / f"{_TRAIN}.json",
        val_json=(from_scratch.data.val_json.parent if _VAL == "val" else _SPLITS) / f"{_VAL}.json",
    ),
    network=Network(size="n", p2=False, weights=os.environ.get("WEIGHTS", "yolov5n.pt")),
    loader=replace(from_scratch.loader, image_size=(512, 640)),
    loss_weights=LossWeights(box=4.0, anchor_ratio_threshold=4.0),
    optimizer=AdamW(Schedule(learning_rate=2e-3, warmup_epochs=1.0)),
    ema=Ema(decay=0.998, ramp=200.0),
    postprocess=Postprocess(pre_nms_topk=500, max_detections=300, voting=0.05, iou_threshold=0.5),
    epochs=24,
    evaluate_every=4,
)
