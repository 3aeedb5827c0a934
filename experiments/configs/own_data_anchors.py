"""`own_data` with YOLOv5 and its anchors, for comparison with YOLOv5 and for the fastest step.

    ugs train own_data_anchors --data data.yaml --network.weights yolov5n.pt

The head of UGS starts from the published one. The weight of the box loss is the best of 1 to 8 on HIT-UAV
(experiments/results/hit_uav_published.md).
"""

from dataclasses import replace

from experiments.configs.own_data import experiment as without_anchors
from ugs_jax.experiment import LossWeights, Network

experiment = replace(
    without_anchors,
    name="own_data_anchors",
    network=Network(size="n", p2=True, p2_joins=False),
    loss_weights=LossWeights(box=4.0),
)
