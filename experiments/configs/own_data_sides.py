"""UGS on your data from a published YOLOv8 or YOLO11 network, whose head it starts from: `own_data` with `SideUGS`.

    ugs train own_data_sides --data data.yaml --network.weights yolov8n.pt
    ugs train own_data_sides --data data.yaml --network.weights yolo11s.pt --network.kind yolo11 --network.size s

The levels are P3 to P5, as published. `--network.p2` adds P2 beside them, whose layers start fresh. The settings are
those of `own_data`; none was tuned for these networks.
"""

from dataclasses import replace

from experiments.configs.own_data import experiment as ugs
from ugs_jax.detectors import TaskAligned
from ugs_jax.experiment import Network
from ugs_jax.objectives import Refinement, SideUGS, Uncertainty

experiment = replace(
    ugs,
    name="own_data_sides",
    localization=SideUGS(um=Uncertainty(weight=0.0), refinement=Refinement(weight=0.0)),
    network=Network(size="n", p2=False, p2_joins=False, kind="yolov8", assigner=TaskAligned(widen="second")),
)
