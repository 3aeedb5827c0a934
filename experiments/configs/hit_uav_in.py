"""UGS, second step: cross entropy on the interval non-uniform (IN) grid, on HIT-UAV."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.detectors import Interval

experiment = replace(baseline, name="UGS: CE + IN", localization=Interval(um=None, refinement=None))
