"""Mosaic: four images around a random point of a canvas of twice the output size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.augment.geometry import Matrix, scaling, translation
from data_pipeline.letterbox import letterbox_of

TILES = 4


@dataclass(frozen=True)
class ImageDraw:
    """Random choice of the images that fill a mosaic.

    Attributes:
      count: Number of images.
      cumulative: Cumulative probability of every image, increasing to 1; None for equal probabilities.
      among: Indices of the images, int [count]; None for 0 to count − 1.
    """

    count: int
    cumulative: np.ndarray | None = None
    among: np.ndarray | None = None

    def __call__(self, rng: np.random.Generator, size: int | None = None) -> list[int]:
        """Return `size` images, or one.

        Args:
          rng: Generator that draws them.
          size: Number of images; None for one.
        """
        if self.cumulative is None:
            drawn = rng.integers(self.count, size=size)
        else:
            drawn = np.searchsorted(self.cumulative[:-1], rng.random(size), side="right")
        return np.atleast_1d(drawn if self.among is None else self.among[drawn]).tolist()


def mosaic_placement(sizes: Sequence[tuple[int, int]], size: tuple[int, int], rng: np.random.Generator) -> list[Matrix]:
    """Place four images so that they meet in one point: top left, top right, bottom left, bottom right.

    The point is uniform in the middle half of a canvas of 2H × 2W px. Each image is scaled as for a letterbox of H × W.
    Unlike in YOLOv5, images are not cut at the edge of the canvas, so that a later warp uncovers image instead of grey.

    Args:
      sizes: Height and width of the four images, px.
      size: Height H and width W of the output, px.
      rng: Generator that draws the meeting point.

    Returns:
      Four matrices from px of an image to px of the canvas.
    """
    meet_x = rng.uniform(0.5, 1.5) * size[1]
    meet_y = rng.uniform(0.5, 1.5) * size[0]
    return mosaic_around((meet_x, meet_y), sizes, size)


def mosaic_around(point: tuple[float, float], sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[Matrix]:
    """Place four images around a given `point` (x, y) px.

    Arguments `sizes` and `size` and the result are the same as in `mosaic_placement`.
    """
    matrices = []
    for tile, (height, width) in enumerate(sizes):
        scale = letterbox_of(height, width, size).scale
        left = point[0] - (width * scale if tile % 2 == 0 else 0.0)
        top = point[1] - (height * scale if tile < 2 else 0.0)
        matrices.append(translation(left, top) @ scaling(scale, scale))
    return matrices
