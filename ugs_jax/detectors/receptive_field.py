"""Assignment by Gaussian receptive fields (RFLA), which gives every object cells, however small it is."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import xyxy_to_cxcywh
from ugs_jax.detectors.assigner import Assignment, Cells, largest, map_objects
from ugs_jax.numerics import SIDE_FLOOR


@dataclass(frozen=True)
class ReceptiveField:
    """Assignment by receptive fields (RFLA): an object chooses the cells whose receptive field is most like it.

    A cell's receptive field and an object are Gaussians with half their sides as standard deviations. Their similarity
    is the receptive field distance RFD = 1 / (1 + KL). Each object chooses its `topk` best cells, inside or outside its
    box. Then all fields shrink by `shrink`, and each object chooses its `again` best cells, of which it gets those that
    learn nothing yet. The last of several objects that choose a cell learns it, as published. All weights are 1.

    The predictions have no influence. An object therefore keeps its cells for the whole training.

    Attributes:
      sides: Side of the receptive field's square in strides: one number for all levels, or one for each level, finest
        first. The published sides are 5.7, 8.3 and 6.7 strides at the strides 8, 16 and 32. 6 makes the levels P2 to P5
        fit boxes of 24, 48, 96 and 192 px.
      topk: Number of cells that an object chooses first.
      again: Number of cells that an object chooses after the fields have shrunk.
      shrink: Factor on the sides of the fields for the second choice, in (0, 1].

    References:
      Xu et al., RFLA: Gaussian Receptive Field based Label Assignment for Tiny Object Detection, ECCV 2022.
    """

    sides: float | tuple[float, ...] = 6.0
    topk: int = 3
    again: int = 1
    shrink: float = 0.9

    def __post_init__(self) -> None:
        if not np.size(self.sides) or not np.all(np.asarray(self.sides) > 0):
            raise ValueError(f"ReceptiveField.sides: expected strides above 0, got {self.sides}")
        if self.topk < 1 or self.again < 0:
            raise ValueError(
                f"ReceptiveField: expected topk of at least 1 and again of at least 0 cells, got {self.topk} and "
                f"{self.again}"
            )
        if not 0 < self.shrink <= 1:
            raise ValueError(f"ReceptiveField.shrink: expected a factor in (0, 1], got {self.shrink}")

    def assign(
        self, cells: Cells, boxes: Float[Array, "m 4"], classes: Int[Array, "m"], mask: Bool[Array, "m"]
    ) -> Assignment:
        """Return the assignment of one image; see `Assigner`.

        Raises:
          ValueError: `sides` has another number of levels than the detector.
        """
        field = self._fields(cells)
        nothing = jnp.full(len(cells.center), -1)
        first, kept = _choose(_nearest(boxes, cells.center, field, self.topk), mask, nothing)
        owner = nothing.at[first].max(jnp.where(kept, _rows(first), -1))
        second, more = _choose(_nearest(boxes, cells.center, self.shrink * field, self.again), mask, owner)
        cell, positive = jnp.concatenate([first, second], axis=1), jnp.concatenate([kept, more], axis=1)
        return Assignment(cell, _rows(cell), positive, positive.astype(boxes.dtype))

    def _fields(self, cells: Cells) -> Float[Array, "cells"]:
        """Return the side of the receptive field of every cell, px."""
        if isinstance(self.sides, tuple) and len(self.sides) != len(cells.strides):
            raise ValueError(
                f"ReceptiveField.sides: expected one number, or one for each of the {len(cells.strides)} levels, got "
                f"{len(self.sides)} numbers"
            )
        sides = np.broadcast_to(np.asarray(self.sides, np.float32), len(cells.strides))
        level = jnp.searchsorted(jnp.asarray(cells.strides, cells.stride.dtype), cells.stride)
        return cells.stride * jnp.asarray(sides)[level]


def _nearest(
    boxes: Float[Array, "m 4"], center: Float[Array, "n 2"], field: Float[Array, "n"], count: int
) -> Int[Array, "m k"]:
    """Return the cells whose receptive field is most like each object."""
    some = min(max(count, 1), len(center))
    nearest = lambda box: largest(-_divergence(box, center, field), some)[1]  # noqa: E731
    return map_objects(nearest, boxes)[:, :count]


def _divergence(box: Float[Array, "4"], center: Float[Array, "n 2"], field: Float[Array, "n"]) -> Float[Array, "n"]:
    """Return the Kullback–Leibler divergence of every cell's receptive field from an object.

    The similarity 1 / (1 + KL) has the same order, but far cells lose their digits in it.
    """
    middle, sides = jnp.split(xyxy_to_cxcywh(box), 2)
    sides = jnp.maximum(sides, SIDE_FLOOR)
    ratio = jnp.square(field[:, None] / sides)
    shift = 4 * jnp.square((center - middle) / sides)
    return jnp.sum(ratio + shift - jnp.log(ratio) - 1, axis=-1) / 2


def _choose(
    cell: Int[Array, "m k"], mask: Bool[Array, "m"], owner: Int[Array, "n"]
) -> tuple[Int[Array, "m k"], Bool[Array, "m k"]]:
    """Return the cells, and the mask of those that the objects get: free before, and not chosen by later objects.

    Args:
      cell: Cells that every object chooses.
      mask: Mask of the objects that choose.
      owner: Object of each cell before; −1 for none.
    """
    chosen = mask[:, None] & (owner[cell] < 0)
    last = owner.at[cell].max(jnp.where(chosen, _rows(cell), -1))
    return cell, chosen & (last[cell] == _rows(cell))


def _rows(cell: Int[Array, "m k"]) -> Int[Array, "m k"]:
    """Return the index of the object of every slot."""
    return jnp.broadcast_to(jnp.arange(len(cell))[:, None], cell.shape)
