"""`visdrone_tph_yolov5x_640` at 1536², the resolution of the paper's best scores."""

from dataclasses import replace

from experiments.configs.visdrone_tph_yolov5x_640 import experiment as smaller

experiment = replace(
    smaller, name="TPH-YOLOv5-x 1536²", loader=replace(smaller.loader, image_size=(1536, 1536)), evaluate_every=2
)
