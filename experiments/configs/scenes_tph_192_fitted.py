"""`scenes_tph_192_ugs` with label grids fitted to the targets, instead of the paper's grids."""

from dataclasses import replace

from experiments.configs.scenes_tph_192_ugs import experiment as ugs
from ugs_jax.objectives import UGS, FittedGrid

experiment = replace(ugs, name="TPH 192² + UGS, fitted grids", localization=UGS(FittedGrid(), FittedGrid()))
