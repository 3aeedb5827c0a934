"""Protocol of the rules by which objects choose cells of a detector without anchors, with static shapes.

An assigner gives each object at most `k` cells over all levels, and each chosen cell the weight with which it learns.
Nothing here carries a gradient.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_EDGE = 1e-9  # px by which a point has to lie inside a box


class Cells(NamedTuple):
    """Predictions of all cells of an image, level by level, finest first.

    Attributes:
      boxes: Decoded boxes, xyxy px.
      scores: Class probabilities.
      center: Centres of the cells, px.
      stride: Pixels per cell.
      strides: Strides of the levels, finest first.
    """

    boxes: Float[Array, "cells 4"]
    scores: Float[Array, "cells n"]
    center: Float[Array, "cells 2"]
    stride: Float[Array, "cells"]
    strides: tuple[int, ...]


class Assignment(NamedTuple):
    """Cells that learn, as `k` slots for each of the m padded objects of an image.

    A slot belongs to the object that chose the cell. The cell may learn another object, see `object`.

    Attributes:
      cell: Flat index of the cell over all levels.
      object: Index of the object that the cell learns.
      positive: Mask of the slots that are used. A cell is in at most one of them.
      weight: Weight of the cell's losses and its target score, in [0, 1].
    """

    cell: Int[Array, "m k"]
    object: Int[Array, "m k"]
    positive: Bool[Array, "m k"]
    weight: Float[Array, "m k"]


@runtime_checkable
class Assigner(Protocol):
    """Rule by which objects choose cells of a detector without anchors. The class must be a dataclass."""

    def assign(
        self, cells: Cells, boxes: Float[Array, "m 4"], classes: Int[Array, "m"], mask: Bool[Array, "m"]
    ) -> Assignment:
        """Return the assignment of one image.

        Args:
          cells: Predictions of the image.
          boxes: Objects, xyxy px.
          classes: Class indices of the objects.
          mask: Mask of the rows that hold an object to learn.
        """


def contains(boxes: Float[Array, "m 4"], points: Float[Array, "n 2"]) -> Bool[Array, "m n"]:
    """Return the mask of the points strictly inside each box."""
    before, after = points - boxes[:, None, :2], boxes[:, None, 2:] - points
    return jnp.minimum(before, after).min(axis=-1) > _EDGE


def settle(cell: Int[Array, "m k"], chosen: Bool[Array, "m k"], similar: Float[Array, "m n"]) -> Assignment:
    """Return an assignment in which each cell learns one object.

    A cell that several objects have chosen learns the object it is most similar to, even one that did not choose it.

    Args:
      cell: Cells that each object has chosen.
      chosen: Mask of the choices that count.
      similar: Similarity of each object and cell; 0 where the cell is no candidate of the object.
    """
    m, k = cell.shape
    count = jnp.zeros(similar.shape[1], jnp.int32).at[cell].add(chosen.astype(jnp.int32))
    own = jnp.broadcast_to(jnp.arange(m)[:, None], (m, k))
    owner = jnp.where(count[cell] > 1, jnp.argmax(similar, axis=0)[cell], own)
    slot = jnp.arange(m * k).reshape(m, k)
    first = jnp.full(similar.shape[1], m * k).at[cell].min(jnp.where(chosen, slot, m * k))
    positive = chosen & (first[cell] == slot)
    return Assignment(cell, owner, positive, jnp.where(positive, 1.0, 0.0))
