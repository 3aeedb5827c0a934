"""Protocol of the rules by which objects choose cells of a detector without anchors, with static shapes.

An assigner gives each object at most `k` cells over all levels, and each chosen cell the weight with which it learns.
Nothing here carries a gradient.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

T = TypeVar("T")
_TOGETHER = 32  # objects that are compared with all cells at the same time
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


def map_objects(function: Callable[..., T], *rows: Array) -> T:
    """Return the outputs of a function of one object for all m objects, about 32 at a time.

    Arrays of objects and cells are large: 300 objects and the cells of P2 to P5 at 640² are 41 MB for each image and
    operation. The memory then does not grow with the number of objects.

    Args:
      function: Function of one row of each array.
      rows: Arrays whose first axis is that of the objects.
    """
    count = len(rows[0])
    together = -(-count // max(-(-count // _TOGETHER), 1))  # of equal size, so that the program has one loop
    return jax.lax.map(lambda row: function(*row), rows, batch_size=together)


def largest(values: Float[Array, "n"], count: int) -> tuple[Float[Array, "k"], Int[Array, "k"]]:
    """Return the largest values and their indices, like `jax.lax.top_k`, which gathers the images of all devices.

    Args:
      values: Values. Once only −∞ is left, −∞ and arbitrary indices are returned.
      count: Number of values to find, a small one: each takes a pass over all values.
    """

    def find(left: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        index = jnp.argmax(left)
        return jnp.where(jnp.arange(left.size) == index, -jnp.inf, left), (jnp.max(left), index)

    return jax.lax.scan(find, values, length=count)[1]


def contains(boxes: Float[Array, "*m 4"], points: Float[Array, "*n 2"]) -> Bool[Array, "..."]:
    """Return the mask of the points strictly inside their boxes. The leading axes are broadcast."""
    before, after = points - boxes[..., :2], boxes[..., 2:] - points
    return jnp.minimum(before, after).min(axis=-1) > _EDGE


def settle(cell: Int[Array, "m k"], chosen: Bool[Array, "m k"], similar: Int[Array, "m k"], cells: int) -> Assignment:
    """Return an assignment in which each cell learns one object.

    A cell that several objects have chosen learns the object it is most similar to, even one that did not choose it.

    Args:
      cell: Cells that each object has chosen.
      chosen: Mask of the choices that count.
      similar: Index of the object that each of these cells is most similar to.
      cells: Number of all cells.
    """
    m, k = cell.shape
    count = jnp.zeros(cells, jnp.int32).at[cell].add(chosen.astype(jnp.int32))
    own = jnp.broadcast_to(jnp.arange(m)[:, None], (m, k))
    owner = jnp.where(count[cell] > 1, similar, own)
    slot = jnp.arange(m * k).reshape(m, k)
    first = jnp.full(cells, m * k).at[cell].min(jnp.where(chosen, slot, m * k))
    positive = chosen & (first[cell] == slot)
    return Assignment(cell, owner, positive, jnp.where(positive, 1.0, 0.0))
