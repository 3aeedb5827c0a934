"""`own_data` with CIoU regression instead of UGS, its baseline in `ugs compare --data data.yaml`."""

from dataclasses import replace

from experiments.configs.own_data import experiment as ugs
from ugs_jax.objectives import BoxRegression

experiment = replace(
    ugs,
    name="own_data_ciou",
    localization=BoxRegression(),
    postprocess=replace(ugs.postprocess, spread_penalty=0.0),  # box regression predicts no spread
)
