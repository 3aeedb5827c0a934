"""Random order of tiles in which the tiles of a few images come together, so that each image is decoded once."""

import numpy as np
from jaxtyping import Int, Int64

from data_pipeline.augment.mosaic import ImageDraw
from data_pipeline.order import Order

_FEWEST = 7  # images in a window, however large they are: a batch should not be from one image
_STREAM = 0x711E


class TileOrder(Order):
    """Tiles of every epoch in windows: the images are shuffled and split into groups, then the tiles of each group.

    An epoch has every tile once. The images of a group fit into a budget, unless seven of them do not. The other tiles
    of a mosaic are drawn from the same group. Seed and epoch determine the order.

    Args:
      image: Index of each tile's image.
      image_bytes: Size of every decoded image, bytes.
      budget: Budget for the decoded images of a group, bytes.
      seed: Seed of the loader.
    """

    def __init__(
        self, image: Int[np.ndarray, " tiles"], image_bytes: Int[np.ndarray, " images"], budget: int, seed: int
    ) -> None:
        super().__init__(len(image))
        self.image, self.image_bytes, self.budget, self.seed = image, image_bytes, budget, seed

    def __getitem__(self, sample: int) -> int:
        """Return the tile of a sample, counted from the start of the first epoch."""
        drawn, place = self.draw(sample)
        return int(drawn[place, 0])

    def others(self, sample: int) -> ImageDraw:
        """Return the choice of the other tiles of a sample's mosaic: those of its group."""
        drawn, place = self.draw(sample)
        _, start, stop = drawn[place].tolist()
        return ImageDraw(stop - start, among=drawn[start:stop, 0])

    def draw_epoch(self, epoch: int) -> Int64[np.ndarray, "tiles 3"]:
        """Return the tiles of an epoch in their order, each with the places where its group starts and ends."""
        rng = np.random.default_rng((_STREAM, self.seed, epoch))
        group = self.groups(rng.permutation(len(self.image_bytes)))[self.image]
        shuffled = rng.permutation(self.length)
        order = shuffled[np.argsort(group[shuffled], kind="stable")]
        in_order = group[order]
        start, stop = (np.searchsorted(in_order, in_order, side) for side in ("left", "right"))
        return np.stack([order, start, stop], axis=1).astype(np.int64)

    def groups(self, shuffled: Int[np.ndarray, " images"]) -> Int64[np.ndarray, " images"]:
        """Return the number of each image's group.

        Args:
          shuffled: Images in their order.
        """
        group, number, count, size = np.empty(len(shuffled), np.int64), 0, 0, 0
        for image, taken in zip(shuffled.tolist(), self.image_bytes[shuffled].tolist(), strict=True):
            if count >= _FEWEST and size + taken > self.budget:
                number, count, size = number + 1, 0, 0
            group[image] = number
            count, size = count + 1, size + taken
        return group
