"""Images with bright rectangles at known places, and data sets of them in memory."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline import Dataset, Example, dataset_from_examples


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def scene(index, height, width, boxes, ignore=()):
    """A dark image with noise up to 99, whose objects and ignore regions are 200; whole numbers as coordinates."""
    pixels = np.random.default_rng(index).integers(0, 100, (height, width, 3), np.uint8)
    for x1, y1, x2, y2 in (*boxes, *ignore):
        pixels[y1:y2, x1:x2] = 200
    table = np.array(boxes, np.float32).reshape(-1, 4)
    classes = (np.arange(len(boxes)) % 2).astype(np.int32)
    regions = np.array(ignore, np.float32).reshape(-1, 4)
    return pixels, Example(png(pixels), table, classes, regions, index, f"{index}.png", height, width)


@dataclass(frozen=True)
class Scenes:
    """Any number of scenes of 100 × 150 px or smaller, with objects of 6 to 14 px in the left half only."""

    images: int = 6

    @property
    def classes(self):
        return ("a", "b")

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        rng, examples = np.random.default_rng(split == "val"), []
        for index in range(self.images):
            corner = rng.integers(0, 56, (int(rng.integers(1, 5)), 2))
            boxes = np.concatenate([corner, corner + rng.integers(6, 15, corner.shape)], axis=1)
            examples.append(scene(index, 100 - index, 150 - 2 * index, boxes.tolist())[1])
        return dataset_from_examples(examples, self.classes, name="scenes", split=split)
