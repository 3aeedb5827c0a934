"""Class-balanced sampling: images with rare classes are drawn more often (repeat-factor sampling)."""

import numpy as np
from jaxtyping import Float64

from data_pipeline.augment.mosaic import ImageDraw
from data_pipeline.dataset import Dataset
from data_pipeline.order import Order

_STREAM = 0xBA1A


def repeat_factors(dataset: Dataset, threshold: float) -> Float64[np.ndarray, "images"]:
    """Return how often every image is drawn, relative to an image with common classes only.

    The factor of a class is r = max(1, √(threshold / f)), where f is the share of images that have the class. The
    factor of an image is the largest among its classes, and 1 for an image without objects.

    Args:
      dataset: Training images.
      threshold: Share of images below which a class is drawn more often.

    References:
      Gupta et al., LVIS: A Dataset for Large Vocabulary Instance Segmentation, CVPR 2019.
    """
    table, images = dataset.table, len(dataset)
    has = np.zeros((images, len(dataset.classes)), bool)
    has[np.repeat(np.arange(images), np.diff(table.box_start)), table.classes] = True
    share = has.mean(axis=0)
    factors = np.sqrt(threshold / np.where(share > 0, share, np.inf))
    return np.maximum(1.0, np.where(has, factors, 0.0).max(axis=1, initial=1.0))


class BalancedOrder(Order):
    """Images of every epoch, drawn in proportion to their repeat factors.

    An epoch has as many samples as the data set has images. An image with factor r is expected r / mean(r) times in it,
    and appears that often rounded up or down (systematic sampling in a random order). An image whose number is below 1
    is left out of some epochs. The other images of a mosaic are drawn in the same proportion. Seed and epoch determine
    the order.

    Args:
      factors: Repeat factor of every image.
      seed: Seed of the loader.
    """

    def __init__(self, factors: Float64[np.ndarray, "images"], seed: int) -> None:
        super().__init__(len(factors))
        self.factors, self.seed = factors, seed
        self._others = ImageDraw(len(factors), np.cumsum(factors) / np.sum(factors))

    def __getitem__(self, sample: int) -> int:
        """Return the image of a sample, counted from the start of the first epoch."""
        drawn, place = self.draw(sample)
        return int(drawn[place])

    def others(self, sample: int) -> ImageDraw:
        """Return the choice of the other images of a sample's mosaic."""
        return self._others

    def draw_epoch(self, epoch: int) -> np.ndarray:
        """Return the images of an epoch in their order, int64 [images]."""
        rng = np.random.default_rng((_STREAM, self.seed, epoch))
        order = rng.permutation(len(self.factors))
        ends = np.cumsum(self.factors[order])
        points = (np.arange(len(order)) + rng.random()) * (ends[-1] / len(order))
        drawn = order[np.minimum(np.searchsorted(ends, points, side="right"), len(order) - 1)]
        return rng.permutation(drawn)
