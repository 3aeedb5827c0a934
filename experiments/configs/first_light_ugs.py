"""Default experiment: `first_light_ciou` with UGS instead of CIoU.

Train it with `ugs train`, or together with its baseline with `ugs compare`.
"""

from dataclasses import replace

from experiments.configs.first_light_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="UGS", localization=UGS())
