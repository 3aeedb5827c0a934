"""`hit_uav_nu_ciou` with the objective and the inference of `hit_uav_n_ugs`."""

from dataclasses import replace

from experiments.configs.hit_uav_n_ugs import experiment as with_anchors
from experiments.configs.hit_uav_nu_ciou import experiment as baseline

experiment = replace(
    baseline, name="UGS, nu", localization=with_anchors.localization, postprocess=with_anchors.postprocess
)
