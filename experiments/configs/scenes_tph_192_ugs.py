"""`scenes_tph_192` with UGS instead of CIoU."""

from dataclasses import replace

from experiments.configs.scenes_tph_192 import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="TPH 192² + UGS", localization=UGS())
