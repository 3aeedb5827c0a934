"""Distribution focal loss with CIoU on HIT-UAV; all else as in `hit_uav_ciou`."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.detectors import Distribution

experiment = replace(baseline, name="DFL", localization=Distribution())
