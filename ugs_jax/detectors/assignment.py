"""Which cells and anchors learn which box: candidates with static shapes, no dense target maps."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import Anchors, pairwise_coverage, xyxy_to_cxcywh
from ugs_jax.numerics import SIDE_FLOOR

Boxes = Float[Array | np.ndarray, "b m 4"]
Regions = Float[Array | np.ndarray, "b r 4"]


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
    boxes: Boxes,
    mask: Bool[Array | np.ndarray, "b m"],
    sizes: Float[np.ndarray, "a 2"],
    *,
    stride: int,
    shape: tuple[int, int],
    ratio_limit: float = 4.0,
) -> Candidates:
    """YOLOv5's assignment: anchors by side ratio; the box's own cell, and the nearest one in each direction.

    An anchor is positive if neither side is `ratio_limit` times longer or shorter than the box's. The nearest cell in
    a direction takes part if it lies in the map and the centre is not just as far from its other neighbour; as
    published, the first column and row take no box whose centre is exactly 1 stride from the edge. A box may be
    learned by several anchors and levels. If its centre lies in the image, it is within (−1, 1) strides of the centres
    of all its cells; a centre outside is learned by the border cell.

    Args:
      boxes: xyxy px.
      mask: which rows hold a box to learn; the others are never positive.
      sizes: anchor sides of this level (w, h), px.
      stride: px a cell.
      shape: rows and columns of the level.
      ratio_limit: the published 4.
    """
    rows, columns = shape
    cxcywh = xyxy_to_cxcywh(jnp.asarray(boxes))
    position = cxcywh[..., :2] / stride  # in cells
    limit = jnp.array([columns, rows])
    own = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, limit - 1)
    before = (position - own < 0.5) & (position > 1)
    after = (position - own > 0.5) & (limit - position > 1)
    step = after.astype(jnp.int32) - before.astype(jnp.int32)  # towards the nearest neighbour; 0 if there is none
    along_x, along_y = step * jnp.array([1, 0]), step * jnp.array([0, 1])
    cells = jnp.stack([own, own + along_x, own + along_y], axis=-2)  # [b, m, 3, (column, row)]
    exists = jnp.concatenate([jnp.ones_like(step[..., :1], bool), step != 0], axis=-1)
    side_ratio = jnp.maximum(cxcywh[..., None, 2:], SIDE_FLOOR) / sizes  # [b, m, a, 2]
    fits = jnp.all(jnp.maximum(side_ratio, 1 / side_ratio) < ratio_limit, axis=-1)
    positive = jnp.asarray(mask)[..., None, None] & exists[..., None] & fits[:, :, None, :]
    cell = jnp.where(jnp.any(positive, axis=-1), cells[..., 1] * columns + cells[..., 0], 0)
    return Candidates(cell, (cells.astype(position.dtype) + 0.5) * stride, positive)


def candidate_anchors(candidates: Candidates, sizes: Float[np.ndarray, "a 2"], *, stride: int) -> Anchors:
    """The anchor behind every candidate, [B, M, 3, A]: offsets of the centre count in strides."""
    shape = (*candidates.positive.shape, 2)
    center = jnp.broadcast_to(candidates.center[..., None, :], shape)
    size = jnp.broadcast_to(jnp.asarray(sizes, center.dtype), shape)
    return Anchors(center, size, jnp.full_like(center, stride))


def learnable(
    boxes: Boxes,
    mask: Bool[Array | np.ndarray, "b m"],
    regions: Regions,
    region_mask: Bool[Array | np.ndarray, "b r"],
    *,
    coverage: float = 0.5,
) -> Bool[Array, "b m"]:
    """Which boxes are positives: those not covered to `coverage` or more of their area by one ignore region.

    Args:
      boxes: xyxy px.
      mask: which rows hold a box.
      regions: xyxy px.
      region_mask: which rows hold an ignore region.
      coverage: share of a box's area, in (0, 1].
    """
    covered = pairwise_coverage(jnp.asarray(boxes), jnp.asarray(regions)) >= coverage
    return jnp.asarray(mask) & ~jnp.any(covered & jnp.asarray(region_mask)[:, None, :], axis=-1)


def background(
    regions: Regions, region_mask: Bool[Array | np.ndarray, "b r"], *, stride: int, shape: tuple[int, int]
) -> Bool[Array, "b cells"]:
    """Which cells may count as background: those that no ignore region reaches into.

    Not only those whose centre is in none: an ignored object smaller than a cell is not background at any level.

    Args:
      regions: xyxy px.
      region_mask: which rows hold an ignore region.
      stride: px a cell.
      shape: rows and columns of the level.
    """
    rows, columns = shape
    edges, active = jnp.asarray(regions)[..., None], jnp.asarray(region_mask)[..., None]
    left, top = jnp.arange(columns) * stride, jnp.arange(rows) * stride
    in_x = (left + stride > edges[..., 0, :]) & (left < edges[..., 2, :]) & active  # [b, r, columns]
    in_y = (top + stride > edges[..., 1, :]) & (top < edges[..., 3, :])
    ignored = jnp.any(in_y[..., :, None] & in_x[..., None, :], axis=1)
    return ~ignored.reshape(regions.shape[0], rows * columns)
