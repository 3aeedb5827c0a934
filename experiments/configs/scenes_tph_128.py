"""`scenes_tph_192` on the same images at two thirds of their resolution."""

from dataclasses import replace

from experiments.configs.scenes_tph_192 import experiment as larger

experiment = replace(larger, name="TPH 128²", loader=replace(larger.loader, image_size=(128, 128)))
