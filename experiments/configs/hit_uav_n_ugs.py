"""UGS on HIT-UAV from published weights; everything but the objective as in `hit_uav_n_ciou`."""

from dataclasses import replace

from experiments.configs.hit_uav_n_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="UGS, n", localization=UGS())
