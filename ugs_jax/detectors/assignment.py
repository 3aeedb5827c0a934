"""Which cells and anchors learn which box: candidates with static shapes, no dense target maps."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import Anchors, pairwise_coverage, xyxy_to_cxcywh
from ugs_jax.numerics import SIDE_FLOOR


class Candidates(NamedTuple):
    """For every box, the three cells of one level that may learn it: its own and its two nearest neighbours.

    Attributes:
      cell: row · width + column; 0 where no anchor is positive.
      center: centre of that cell, px.
      positive: which anchors of the cell learn the box.
    """

    cell: Int[Array, "b m 3"]
    center: Float[Array, "b m 3 2"]
    positive: Bool[Array, "b m 3 a"]


def assign(
    boxes: Float[Array, "b m 4"],
    mask: Bool[Array, "b m"],
    sizes: Float[np.ndarray, "a 2"],
    *,
    stride: int,
    shape: tuple[int, int],
    ratio_limit: float = 4.0,
) -> Candidates:
    """YOLOv5's assignment: anchors by side ratio; the box's own cell, and the nearest one in each direction.

    An anchor is positive if neither side is `ratio_limit` times longer or shorter than the box's. A box may be learned
    by several anchors and levels; its centre lies within (−1, 1) strides of the centre of each of its cells.

    Args:
      boxes: xyxy px.
      mask: which rows hold a box to learn.
      sizes: anchor sides of this level (w, h), px.
      stride: px a cell.
      shape: rows and columns of the level.
      ratio_limit: the published 4.
    """
    rows, columns = shape
    cxcywh = xyxy_to_cxcywh(boxes)
    position = cxcywh[..., :2] / stride  # in cells
    limit = jnp.array([columns, rows])
    own = jnp.clip(jnp.floor(position), 0, limit - 1).astype(jnp.int32)
    fraction = position - own
    step = jnp.where(fraction < 0.5, -1, 1) * (fraction != 0.5)
    column_step = jnp.stack([step[..., 0], jnp.zeros_like(step[..., 0])], axis=-1)
    cells = jnp.stack([own, own + column_step, own + step - column_step], axis=-2)  # [b, m, 3, (column, row)]
    inside = jnp.all((cells >= 0) & (cells < limit), axis=-1)
    moved = jnp.stack([jnp.ones_like(step[..., 0], bool), step[..., 0] != 0, step[..., 1] != 0], axis=-1)
    side_ratio = jnp.maximum(cxcywh[..., None, 2:], SIDE_FLOOR) / sizes  # [b, m, a, 2]
    fits = jnp.all(jnp.maximum(side_ratio, 1 / side_ratio) < ratio_limit, axis=-1)
    positive = mask[..., None, None] & (inside & moved)[..., None] & fits[:, :, None, :]
    cell = jnp.where(jnp.any(positive, axis=-1), cells[..., 1] * columns + cells[..., 0], 0)
    return Candidates(cell, (cells + 0.5) * float(stride), positive)


def candidate_anchors(candidates: Candidates, sizes: Float[np.ndarray, "a 2"], *, stride: int) -> Anchors:
    """The anchor behind every candidate, [B, M, 3, A]: offsets of the centre count in strides."""
    shape = (*candidates.positive.shape, 2)
    center = jnp.broadcast_to(candidates.center[..., None, :], shape)
    return Anchors(center, jnp.broadcast_to(jnp.asarray(sizes, center.dtype), shape), jnp.full(shape, float(stride)))


def learnable(
    boxes: Float[Array, "b m 4"],
    mask: Bool[Array, "b m"],
    regions: Float[Array, "b r 4"],
    region_mask: Bool[Array, "b r"],
    *,
    coverage: float = 0.5,
) -> Bool[Array, "b m"]:
    """Which boxes are positives: those not covered to `coverage` or more of their area by one ignore region."""
    covered = jnp.where(region_mask[:, None, :], pairwise_coverage(boxes, regions), 0.0)
    return mask & ~jnp.any(covered >= coverage, axis=-1)


def background(
    regions: Float[Array, "b r 4"], region_mask: Bool[Array, "b r"], *, stride: int, shape: tuple[int, int]
) -> Bool[Array, "b cells"]:
    """Which cells may count as background: those whose centre lies in no ignore region."""
    rows, columns = shape
    x = (jnp.arange(columns) + 0.5) * stride
    y = (jnp.arange(rows) + 0.5) * stride
    in_x = (x >= regions[..., None, 0]) & (x < regions[..., None, 2]) & region_mask[..., None]  # [b, r, columns]
    in_y = (y >= regions[..., None, 1]) & (y < regions[..., None, 3])
    ignored = jnp.any(in_y[..., :, None] & in_x[..., None, :], axis=1)
    return ~ignored.reshape(regions.shape[0], rows * columns)
