"""What an output shows of warped boxes: exact hulls of the visible parts, and which boxes stay."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from data_pipeline.augment.geometry import Matrix, corners, is_axis_aligned, sides, warp_quads

LEAST_VISIBLE_SIDE = 0.5  # px; a sliver thinner than this shows in no pixel and needs no ignore region


class KeepRule(NamedTuple):
    """When a partly visible box still is a label.

    Attributes:
      min_side: both visible sides are longer than this, px of the output,
      min_visible: more than this share of its area is visible,
      max_aspect: the long visible side is under this many short sides.
    """

    min_side: float
    min_visible: float
    max_aspect: float


def clip_boxes(boxes: Float[np.ndarray, "n 4"], size: tuple[int, int]) -> Float64[np.ndarray, "n 4"]:
    """Parts of boxes [n, 4] xyxy px inside an image of `size` (height, width); zero-sided when outside."""
    height, width = size
    return np.clip(boxes, 0.0, np.array([width, height, width, height], np.float64))


def warped_hulls(
    boxes: Float[np.ndarray, "n 4"], matrix: Matrix, size: tuple[int, int]
) -> tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, "n 4"]]:
    """Upright hulls of warped boxes and of their visible parts.

    A turned box is clipped as a quadrilateral: clipping its hull instead would reach beyond what is visible.

    Args:
      boxes: [n, 4] xyxy px.
      matrix: from px of the boxes to px of the output.
      size: height and width of the output, px.

    Returns:
      hulls of the boxes, float64 [n, 4] xyxy px of the output; of their visible parts, the same, zero-sided when
      nothing is visible.
    """
    quads = warp_quads(boxes, matrix)
    hulls = np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)
    if is_axis_aligned(matrix) or len(boxes) == 0:
        return hulls, clip_boxes(hulls, size)
    image_corners = np.broadcast_to(corners(*size), (len(boxes), 4, 2))
    edge_points, edge_seen = _clip_edges(quads, np.array([size[1], size[0]], np.float64))
    points = np.concatenate([edge_points, image_corners], axis=1)
    seen = np.concatenate([edge_seen, _corners_inside(quads, image_corners)], axis=1)[..., None]
    low, high = np.where(seen, points, np.inf).min(axis=1), np.where(seen, points, -np.inf).max(axis=1)
    return hulls, clip_boxes(np.where(seen.any(axis=1), np.concatenate([low, high], axis=1), 0.0), size)


def keep(
    hulls: Float64[np.ndarray, "n 4"], seen: Float64[np.ndarray, "n 4"], rule: KeepRule
) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Says which boxes stay labels, and which become ignore regions.

    Args:
      hulls: [n, 4] xyxy px of the output, of the whole boxes.
      seen: [n, 4] xyxy px of the output, of their visible parts.
      rule: when a box stays.

    Returns:
      bool [n], it stays; bool [n], it does not, but a part of it is visible.
    """
    width_height = sides(seen)
    short, long = width_height.min(axis=1), width_height.max(axis=1)
    enough = width_height.prod(axis=1) > rule.min_visible * sides(hulls).prod(axis=1)
    stays = (short > rule.min_side) & enough & (long < rule.max_aspect * np.maximum(short, 1e-9))
    return stays, ~stays & (short > LEAST_VISIBLE_SIDE)


def _clip_edges(
    quads: Float64[np.ndarray, "n 4 2"], limit: Float64[np.ndarray, "2"]
) -> tuple[Float64[np.ndarray, "n 8 2"], Bool[np.ndarray, "n 8"]]:
    # Liang and Barsky (1984): the part of start + t·step, 0 ≤ t ≤ 1, inside [0, limit].
    step = np.roll(quads, -1, axis=1) - quads
    moving = step != 0.0
    safe = np.where(moving, step, 1.0)
    t = np.sort(np.stack([-quads / safe, (limit - quads) / safe]), axis=0)  # entry, exit per axis
    within = (quads >= 0.0) & (quads <= limit)
    enter = np.where(moving, t[0], np.where(within, -np.inf, np.inf)).max(axis=-1).clip(min=0.0)
    leave = np.where(moving, t[1], np.where(within, np.inf, -np.inf)).min(axis=-1).clip(max=1.0)
    seen = enter <= leave
    ends = [quads + np.where(seen, at, 0.0)[..., None] * step for at in (enter, leave)]
    return np.concatenate(ends, axis=1), np.concatenate([seen, seen], axis=1)


def _corners_inside(
    quads: Float64[np.ndarray, "n 4 2"], points: Float64[np.ndarray, "n m 2"]
) -> Bool[np.ndarray, "n m"]:
    # All four edges turn the same way around a point inside a convex quadrilateral, whichever way that is.
    start, step = quads[:, :, None], (np.roll(quads, -1, axis=1) - quads)[:, :, None]
    offset = points[:, None] - start
    turn = step[..., 0] * offset[..., 1] - step[..., 1] * offset[..., 0]
    return (turn > 0.0).all(axis=1) | (turn < 0.0).all(axis=1)
