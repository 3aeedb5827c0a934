"""UGS, third step: CE + IN and uncertainty minimisation by matching the label's entropy, on HIT-UAV."""

from dataclasses import replace

from experiments.configs.hit_uav_ciou import experiment as baseline
from ugs_jax.detectors import Interval, Uncertainty

experiment = replace(
    baseline, name="UGS: CE + IN + UM (match)", localization=Interval(um=Uncertainty("match"), refinement=None)
)
