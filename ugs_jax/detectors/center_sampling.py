"""Assignment by centre sampling (FCOS): the cells around an object's centre, at the level that suits its size."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.detectors.assigner import Assignment, Cells, contains, largest


@dataclass(frozen=True)
class CenterSampling:
    """Centre sampling (FCOS): an object is learned by the cells near its centre, at the level that suits its size.

    A cell is a candidate if its centre lies strictly inside the box and less than `radius` strides from the box's
    centre along each axis, and if its distance to the farthest side of the box is in the range of the level. The ranges
    are 0 to `reach` strides at the finest level, and from the end of the previous range to `reach` strides at the next
    ones, without an end at the coarsest. With strides 8, 16, … these are the published 0, 64, 128, … px. The smallest
    of several objects at a cell learns it. All weights are 1.

    The predictions have no influence. An object that lies between the centres of the cells has no cell at all.

    Attributes:
      radius: Distance from the object's centre up to which cells take part, strides.
      reach: Upper end of the range of each level, strides.
      topk: Largest number of cells of an object. The cells nearest to its centre (px) are kept. With a radius of 1.5 an
        object has at most 9 cells at a level; it has more only if its size is at the border of two ranges.

    References:
      Tian et al., FCOS: A Simple and Strong Anchor-free Object Detector, TPAMI 2020.
    """

    radius: float = 1.5
    reach: float = 8.0
    topk: int = 9

    def __post_init__(self) -> None:
        for name in ("radius", "reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"CenterSampling.{name}: expected strides above 0, got {getattr(self, name)}")
        if self.topk < 1:
            raise ValueError(f"CenterSampling.topk: expected at least 1 cell, got {self.topk}")

    def assign(
        self, cells: Cells, boxes: Float[Array, "m 4"], classes: Int[Array, "m"], mask: Bool[Array, "m"]
    ) -> Assignment:
        """Return the assignment of one image; see `Assigner`."""
        offset = cells.center - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        sides = boxes[:, 2:] - boxes[:, :2]
        near = jnp.abs(offset).max(axis=-1) < self.radius * cells.stride
        farthest = (jnp.abs(offset) + sides[:, None] / 2).max(axis=-1)  # for cells inside
        least, most = self._ranges(cells)
        fits = (farthest > least) & (farthest <= most)
        candidate = contains(boxes[:, None], cells.center) & near & fits & mask[:, None]
        smallest = jnp.argmin(jnp.where(candidate, sides.prod(axis=-1)[:, None], jnp.inf), axis=0)
        own = candidate & (smallest == jnp.arange(len(boxes))[:, None])
        order = jnp.where(own, -jnp.square(offset).sum(axis=-1), -jnp.inf)
        best, cell = jax.vmap(lambda values: largest(values, min(self.topk, values.size)))(order)
        positive = jnp.isfinite(best)
        rows = jnp.broadcast_to(jnp.arange(len(boxes))[:, None], cell.shape)
        return Assignment(cell, rows, positive, positive.astype(boxes.dtype))

    def _ranges(self, cells: Cells) -> tuple[Float[Array, "cells"], Float[Array, "cells"]]:
        """Return the ends of the range of every cell, px."""
        ends = self.reach * np.asarray(cells.strides[:-1], np.float32)
        level = jnp.searchsorted(jnp.asarray(cells.strides, cells.stride.dtype), cells.stride)
        return jnp.asarray([0.0, *ends])[level], jnp.asarray([*ends, np.inf])[level]
