"""Visible parts of warped boxes: their exact upright hulls, and the rule for boxes that stay labels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from data_pipeline.augment.geometry import Matrix, corners, is_axis_aligned, sides, warp_quads

LEAST_VISIBLE_SIDE = 0.5  # px. A thinner part is not visible in any pixel and needs no ignore region.


class KeepRule(NamedTuple):
    """Conditions under which a partly visible box stays a label.

    Attributes:
      min_side: Length that both visible sides exceed, px of the output.
      min_visible: Share of the box's area that its visible part exceeds.
      max_aspect: Ratio of the long to the short visible side that the box stays below.
    """

    min_side: float
    min_visible: float
    max_aspect: float


def clip_boxes(boxes: Float[np.ndarray, "n 4"], size: tuple[int, int]) -> Float64[np.ndarray, "n 4"]:
    """Clip boxes [n, 4] xyxy px to an image of `size` (height, width). A box outside the image gets zero sides."""
    height, width = size
    return np.clip(boxes, 0.0, np.array([width, height, width, height], np.float64))


def warped_hulls(
    boxes: Float[np.ndarray, "n 4"], matrix: Matrix, size: tuple[int, int]
) -> tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, "n 4"]]:
    """Return the upright hulls of warped boxes and of their visible parts.

    A rotated box is clipped as a quadrilateral. Clipping its hull instead would include area beyond the visible part.

    Args:
      boxes: Boxes [n, 4], xyxy px.
      matrix: Map from px of the boxes to px of the output.
      size: Height and width of the output, px.

    Returns:
      Hulls of the whole boxes, and hulls of their visible parts, both float64 [n, 4] xyxy px of the output. The second
      has zero sides where no part of the box is visible.
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
    """Select the boxes that stay labels and those that become ignore regions.

    Args:
      hulls: Hulls of the whole boxes [n, 4], xyxy px of the output.
      seen: Hulls of their visible parts [n, 4], xyxy px of the output.
      rule: Conditions for labels.

    Returns:
      Mask of the labels, bool [n], and mask of the other boxes that are visible in part, bool [n].
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
    # Around a point inside a convex quadrilateral, all four edges turn the same way, clockwise or counterclockwise.
    start, step = quads[:, :, None], (np.roll(quads, -1, axis=1) - quads)[:, :, None]
    offset = points[:, None] - start
    turn = step[..., 0] * offset[..., 1] - step[..., 1] * offset[..., 0]
    return (turn > 0.0).all(axis=1) | (turn < 0.0).all(axis=1)
