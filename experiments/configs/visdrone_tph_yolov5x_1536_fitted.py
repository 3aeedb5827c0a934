"""`visdrone_tph_yolov5x_1536_ugs` with label grids fitted to the targets, instead of the paper's grids."""

from dataclasses import replace

from experiments.configs.visdrone_tph_yolov5x_1536_ugs import experiment as ugs
from ugs_jax.objectives import FittedGrid

experiment = replace(
    ugs,
    name="TPH-YOLOv5-x 1536² + UGS, fitted grids",
    localization=replace(ugs.localization, center=FittedGrid(), size=FittedGrid()),
)
