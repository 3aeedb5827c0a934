"""UGS, third step: CE + IN and uncertainty minimisation by plain entropy, on HIT-UAV."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.detectors import Interval, Uncertainty

experiment = replace(
    baseline, name="UGS: CE + IN + UM (entropy)", localization=Interval(um=Uncertainty("entropy"), refinement=None)
)
