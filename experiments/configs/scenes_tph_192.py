"""The paper's experiment at the scale of a CPU: a small TPH-YOLOv5 on synthetic scenes, at two resolutions.

    ugs compare scenes_tph_192 scenes_tph_192_ugs scenes_tph_128 scenes_tph_128_ugs --seeds 0 1 2

All of these configs use the same images of 192 × 192 px. Everything else is as in `first_light_ciou`.
"""

from dataclasses import replace

from data_pipeline import TinyScenes
from experiments.configs.first_light_ciou import experiment as first_light

experiment = replace(
    first_light,
    name="TPH 192²",
    data=TinyScenes(variant="light", image_size=(192, 192), train_images=512, val_images=128),
    network=replace(first_light.network, kind="tph"),
    loader=replace(first_light.loader, image_size=(192, 192), max_boxes=64),
    evaluate_every=1,
)
