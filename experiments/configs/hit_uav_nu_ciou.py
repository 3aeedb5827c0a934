"""`hit_uav_n_ciou` without anchors: YOLOv5nu, whose backbone and neck start from the published YOLOv5n.

    HIT_UAV=FOLDER WEIGHTS=yolov5n.pt ugs train hit_uav_nu_ciou

Boxes choose cells by their receptive fields (RFLA). The heads start fresh, because WEIGHTS has heads of another kind.
The weight of the box loss is the published proportion of networks without anchors.
"""

from dataclasses import replace

from experiments.configs.hit_uav_n_ciou import experiment as with_anchors
from ugs_jax.detectors import ReceptiveField

experiment = replace(
    with_anchors,
    name="CIoU, nu",
    network=replace(with_anchors.network, kind="yolov5u", assigner=ReceptiveField()),
    loss_weights=replace(with_anchors.loss_weights, box=1.0),
)
