"""`hit_uav_n_ciou` with UGS instead of CIoU: HIT-UAV from published weights."""

from dataclasses import replace

from experiments.configs.hit_uav_n_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="UGS, n", localization=UGS(weight=0.1, box_weight=0.9))
