"""The default experiment: the baseline with UGS instead of CIoU. `ugs train`, or beside its baseline: `ugs compare`."""

from dataclasses import replace

from experiments.configs.first_light_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="UGS", localization=UGS())
