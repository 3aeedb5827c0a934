"""`visdrone_tph_yolov5x_640` with UGS instead of CIoU, as the paper prints it.

The entropy of the prediction is minimised and there is no loss on the decoded box. The library's default, `UGS()`,
matches the entropy to that of the label and adds a box loss (docs/objectives.md).
"""

from dataclasses import replace

from experiments.configs.visdrone_tph_yolov5x_640 import experiment as baseline
from ugs_jax.objectives import UGS

experiment = replace(baseline, name="TPH-YOLOv5-x 640² + UGS", localization=UGS.as_printed())
