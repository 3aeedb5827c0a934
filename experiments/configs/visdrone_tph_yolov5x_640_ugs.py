"""`visdrone_tph_yolov5x_640` with UGS instead of CIoU."""

from dataclasses import replace

from experiments.configs.visdrone_tph_yolov5x_640 import experiment as baseline
from ugs_jax.detectors import Interval

experiment = replace(baseline, name="TPH-YOLOv5-x 640² + UGS", localization=Interval())
