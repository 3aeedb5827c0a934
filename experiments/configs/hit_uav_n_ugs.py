"""`hit_uav_n_ciou` with UGS instead of CIoU: HIT-UAV from published weights.

UM and UR are off, because they gained nothing on real images from published weights
(experiments/results/hit_uav_published.md). `--localization.um.weight 0.5 --localization.refinement.weight 0.1` turns
them on.
"""

from dataclasses import replace

from experiments.configs.hit_uav_n_ciou import experiment as baseline
from ugs_jax.objectives import UGS, Refinement, Uncertainty

experiment = replace(
    baseline,
    name="UGS, n",
    localization=UGS(um=Uncertainty(weight=0.0), refinement=Refinement(weight=0.0)),
    postprocess=replace(baseline.postprocess, spread_penalty=4.0),
)
