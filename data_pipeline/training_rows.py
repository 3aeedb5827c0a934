"""Samples of training: which image and size each has, the row that is made of it, and a bound of its boxes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_pipeline.augment.augmentation import Augmentation, augmented, most_boxes
from data_pipeline.augment.mosaic import ImageDraw
from data_pipeline.order import Order
from data_pipeline.pictures import Pictures
from data_pipeline.rows import Capacity, Row, make_row

_STREAM = 0x512E


def draw_size(seed: int, step: int, count: int) -> int:
    """Return the number of the size that the batch of a step has, drawn with equal probability.

    Args:
      seed: Seed of the loader.
      step: Step of the batch.
      count: Number of sizes.
    """
    return 0 if count == 1 else int(np.random.default_rng((_STREAM, seed, step)).integers(count))


class Drawn(NamedTuple):
    """Sample before it is loaded.

    Attributes:
      image: Index of the image.
      size: Number of the size that the sample's batch has.
      others: Choice of the other images of a mosaic.
    """

    image: int
    size: int
    others: ImageDraw


@dataclass(frozen=True)
class Draw:
    """Choice of image, size and mosaic for a sample, counted from the start of the first epoch.

    Attributes:
      images: Number of images.
      seed: Seed of the loader.
      batch_size: Number of samples in a batch, over all processes.
      sizes: Number of sizes.
      order: Order of the images; None keeps the shuffled one and draws mosaics from all images.
    """

    images: int
    seed: int
    batch_size: int
    sizes: int
    order: Order | None

    def __call__(self, sample: int, index: int) -> Drawn:
        """Return image, size and mosaic of a sample.

        Args:
          sample: Number of the sample.
          index: Index of the image in the shuffled order.
        """
        size = draw_size(self.seed, sample // self.batch_size, self.sizes)
        if self.order is None:
            return Drawn(index, size, ImageDraw(self.images))
        return Drawn(self.order[sample], size, self.order.others(sample))


@dataclass(frozen=True)
class TrainingRow:
    """Augmented row of a sample.

    Attributes:
      pictures: Images at each size.
      augmentation: Random changes.
      capacity: Capacity of the row.
    """

    pictures: tuple[Pictures, ...]
    augmentation: Augmentation
    capacity: Capacity

    def __call__(self, drawn: Drawn, rng: np.random.Generator) -> Row:
        """Return the row of a sample.

        Args:
          drawn: Image, size and mosaic of the sample.
          rng: Generator of the sample.
        """
        pictures = self.pictures[drawn.size]
        example = pictures.annotations(drawn.image)
        sample = augmented(pictures, drawn.image, self.augmentation, rng, drawn.others)
        return make_row(sample, self.capacity, drawn.image, (example.height, example.width), rng)


@dataclass(frozen=True)
class MostBoxes:
    """Upper bound of the boxes of a sample, without loading it.

    Attributes:
      counts: Number of boxes of every image, int [N].
      sizes: Height and width of every image, px, int [N, 2].
      augmentation: Augmentation of the sample.
    """

    counts: np.ndarray
    sizes: np.ndarray
    augmentation: Augmentation

    def __call__(self, drawn: Drawn, rng: np.random.Generator) -> int:
        """Return the bound of a sample.

        Args:
          drawn: Image, size and mosaic of the sample.
          rng: Generator in the state in which `TrainingRow` receives it.
        """
        return most_boxes(self.counts, self.sizes, drawn.image, self.augmentation, rng, drawn.others)
