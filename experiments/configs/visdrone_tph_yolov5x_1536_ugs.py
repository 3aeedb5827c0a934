"""`visdrone_tph_yolov5x_1536` with UGS instead of CIoU; see `visdrone_tph_yolov5x_640_ugs`."""

from dataclasses import replace

from experiments.configs.visdrone_tph_yolov5x_640_ugs import experiment as ugs
from experiments.configs.visdrone_tph_yolov5x_1536 import experiment as baseline

experiment = replace(baseline, name="TPH-YOLOv5-x 1536² + UGS", localization=ugs.localization)
