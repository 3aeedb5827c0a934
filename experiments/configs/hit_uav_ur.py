"""UGS, whole: CE + IN + UM + uncertainty-guided refinement (UR), on HIT-UAV."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="UGS: CE + IN + UM + UR", localization=UGS())
