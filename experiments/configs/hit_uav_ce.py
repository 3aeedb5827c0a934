"""UGS, first step: cross entropy on a uniform grid, on HIT-UAV; all else as in `hit_uav_ciou`."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.detectors import Grid, Interval

experiment = replace(
    baseline,
    name="UGS: CE",
    localization=Interval(center=Grid(2.0), size=Grid(2.0), um=None, refinement=None),
)
