"""Smooth L1 on offsets on HIT-UAV; all else as in `hit_uav_ciou`."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax import losses
from ugs_jax.detectors import Regression

experiment = replace(baseline, name="smooth L1", localization=Regression(losses.smooth_l1, space="offsets"))
