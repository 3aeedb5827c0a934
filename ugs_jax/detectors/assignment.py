"""Assignment of boxes to cells and anchors: candidates with static shapes instead of dense target maps."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import Anchors, pairwise_coverage, xyxy_to_cxcywh
from ugs_jax.numerics import SIDE_FLOOR

Boxes = Float[Array | np.ndarray, "b m 4"]
Regions = Float[Array | np.ndarray, "b r 4"]


class Candidates(NamedTuple):
    """Cells of one level that may learn each box.

    With anchors these are three, the cell of the box's centre and the two nearest neighbours.

    Attributes:
      cell: Flat index of the cell, row · width + column; 0 where no anchor is positive.
      center: Centre of the cell, px.
      positive: Mask of the anchors of the cell that learn the box.
    """

    cell: Int[Array, "b m k"]
    center: Float[Array, "b m k 2"]
    positive: Bool[Array, "b m k a"]


def assign(
    boxes: Boxes,
    mask: Bool[Array | np.ndarray, "b m"],
    sizes: Float[np.ndarray, "a 2"],
    *,
    stride: int,
    shape: tuple[int, int],
    anchor_ratio_threshold: float = 4.0,
) -> Candidates:
    """Assign boxes as YOLOv5 does: anchors by side ratio; the box's own cell and the nearest cell along each axis.

    An anchor is positive if neither side is `anchor_ratio_threshold` times longer or shorter than that of the box.
    The nearest cell along an axis takes part if it lies in the map and the centre is not equally far from both
    neighbours. As published, the first column and row take no box whose centre is exactly 1 stride from the edge. A
    box may be
    learned by several anchors and levels. If its centre lies in the image, it is within (−1, 1) strides of the centres
    of all its cells. If its centre lies outside the image, the border cell learns it.

    Args:
      boxes: Boxes, xyxy, px.
      mask: Mask of the rows that hold a box to learn. The other rows are never positive.
      sizes: Anchor sides (w, h) of this level, px.
      stride: Pixels per cell.
      shape: Rows and columns of the level.
      anchor_ratio_threshold: Side ratio up to which an anchor may learn a box; 4 as published.
    """
    rows, columns = shape
    cxcywh = xyxy_to_cxcywh(jnp.asarray(boxes))
    position = cxcywh[..., :2] / stride  # in cells
    limit = jnp.array([columns, rows])
    own = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, limit - 1)
    before = (position - own < 0.5) & (position > 1)
    after = (position - own > 0.5) & (limit - position > 1)
    step = after.astype(jnp.int32) - before.astype(jnp.int32)  # towards the nearest neighbour; 0 without one
    along_x, along_y = step * jnp.array([1, 0]), step * jnp.array([0, 1])
    cells = jnp.stack([own, own + along_x, own + along_y], axis=-2)  # [b, m, 3, (column, row)]
    exists = jnp.concatenate([jnp.ones_like(step[..., :1], bool), step != 0], axis=-1)
    side_ratio = jnp.maximum(cxcywh[..., None, 2:], SIDE_FLOOR) / sizes  # [b, m, a, 2]
    fits = jnp.all(jnp.maximum(side_ratio, 1 / side_ratio) < anchor_ratio_threshold, axis=-1)
    positive = jnp.asarray(mask)[..., None, None] & exists[..., None] & fits[:, :, None, :]
    cell = jnp.where(jnp.any(positive, axis=-1), cells[..., 1] * columns + cells[..., 0], 0)
    return Candidates(cell, (cells.astype(position.dtype) + 0.5) * stride, positive)


def candidate_anchors(candidates: Candidates, sizes: Float[np.ndarray, "a 2"], *, stride: int) -> Anchors:
    """Return the anchor of every candidate, [B, M, 3, A], with the stride as the unit of centre offsets.

    Args:
      candidates: Candidates from `assign`.
      sizes: Anchor sides (w, h) of this level, px.
      stride: Pixels per cell.
    """
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
    """Return the mask of the boxes to learn: no ignore region covers `coverage` or more of their area.

    Args:
      boxes: Boxes, xyxy, px.
      mask: Mask of the rows that hold a box.
      regions: Ignore regions, xyxy, px.
      region_mask: Mask of the rows that hold an ignore region.
      coverage: Share of a box's area, in (0, 1], from which a region excludes the box.
    """
    covered = pairwise_coverage(jnp.asarray(boxes), jnp.asarray(regions)) >= coverage
    return jnp.asarray(mask) & ~jnp.any(covered & jnp.asarray(region_mask)[:, None, :], axis=-1)


def background(
    regions: Regions, region_mask: Bool[Array | np.ndarray, "b r"], *, stride: int, shape: tuple[int, int]
) -> Bool[Array, "b cells"]:
    """Return the mask of the cells that may count as background: those that no ignore region overlaps.

    It is not enough that the centre of a cell lies outside all regions: an ignored object that is smaller than a cell
    is not background at any level.

    Args:
      regions: Ignore regions, xyxy, px.
      region_mask: Mask of the rows that hold an ignore region.
      stride: Pixels per cell.
      shape: Rows and columns of the level.
    """
    rows, columns = shape
    edges, active = jnp.asarray(regions)[..., None], jnp.asarray(region_mask)[..., None]
    left, top = jnp.arange(columns) * stride, jnp.arange(rows) * stride
    in_x = (left + stride > edges[..., 0, :]) & (left < edges[..., 2, :]) & active  # [b, r, columns]
    in_y = (top + stride > edges[..., 1, :]) & (top < edges[..., 3, :])
    ignored = jnp.any(in_y[..., :, None] & in_x[..., None, :], axis=1)
    return ~ignored.reshape(regions.shape[0], rows * columns)
