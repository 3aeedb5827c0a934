"""All cells of a detector without anchors as one list over the levels, and the way back to levels."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ugs_jax.boxes import Anchors
from ugs_jax.detectors.assigner import Assignment
from ugs_jax.detectors.assignment import Candidates


def anchors_of_cells(shape: tuple[int, ...], sizes: Float[np.ndarray, "1 2"], stride: int) -> Anchors:
    """Return the anchor of every cell of a level, row by row.

    Args:
      shape: Rows and columns of the level.
      sizes: Sides (w, h) of the level's anchor, px.
      stride: Pixels per cell.
    """
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].reshape(2, -1).astype(np.float32)
    center = jnp.asarray(np.stack([x + 0.5, y + 0.5], axis=-1) * stride)
    return Anchors(center, jnp.broadcast_to(jnp.asarray(sizes), center.shape), jnp.full_like(center, stride))


def candidates_by_level(assigned: Assignment, levels: Sequence[Anchors]) -> list[Candidates]:
    """Return the chosen cells of every level. A slot is positive at the level of its cell only.

    Args:
      assigned: Assignment of a batch, [b, m, k].
      levels: Anchors of all cells of every level.
    """
    found, first = [], 0
    for anchors in levels:
        last = first + len(anchors.center)
        here = assigned.positive & (assigned.cell >= first) & (assigned.cell < last)
        cell = jnp.where(here, assigned.cell - first, 0)
        found.append(Candidates(cell, anchors.center[cell], here[..., None]))
        first = last
    return found
