"""`hit_uav_n_ciou` with UGS instead of CIoU, and scores that know their spread: HIT-UAV from published weights."""

from dataclasses import replace

from experiments.configs.hit_uav_n_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(
    baseline,
    name="UGS, n",
    localization=UGS(),
    postprocess=replace(baseline.postprocess, spread_penalty=4.0),
)
