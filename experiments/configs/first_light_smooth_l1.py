"""Smooth L1 on offsets, on the first run's scenes: the baseline of the paper's figure for gradient variance.

ugs compare first_light_smooth_l1 first_light_ugs --seeds 0 1 2
"""

from dataclasses import replace

from experiments.configs.first_light_ciou import experiment as baseline
from ugs_jax import losses
from ugs_jax.detectors import Regression

experiment = replace(baseline, name="smooth L1", localization=Regression(losses.smooth_l1, space="offsets"))
