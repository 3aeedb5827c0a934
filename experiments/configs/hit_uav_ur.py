"""`hit_uav_ciou` with the default UGS objective: CE + IN + UM + uncertainty-guided refinement (UR) + box loss."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="UGS: CE + IN + UM + UR", localization=UGS())
