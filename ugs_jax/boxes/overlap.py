"""Overlap of boxes: intersection, union, enclosing box and IoU, element by element and for all pairs.

All boxes are xyxy in px. A reversed box (x2 < x1 or y2 < y1) is empty: its area and its overlap with anything are 0.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ugs_jax.boxes.format import area, corners
from ugs_jax.numerics import narrow, ratio, widen


def intersection(boxes: Float[Array, "*#batch 4"], others: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """Return the area that each box shares with its partner, px².

    Args:
      boxes: Boxes, xyxy, px.
      others: Partners of the boxes, xyxy, px. The batch axes broadcast.
    """
    x1, y1, x2, y2 = corners(boxes)
    u1, v1, u2, v2 = corners(others)
    width = jnp.minimum(x2, u2) - jnp.maximum(x1, u1)
    height = jnp.minimum(y2, v2) - jnp.maximum(y1, v1)
    return narrow(jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0), boxes, others)


def union(boxes: Float[Array, "*#batch 4"], others: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """Return the area that each box and its partner cover together, px².

    Args:
      boxes: Boxes, xyxy, px.
      others: Partners of the boxes, xyxy, px. The batch axes broadcast.
    """
    a, b = widen(boxes, others)
    return narrow(area(a) + area(b) - intersection(a, b), boxes, others)


def enclosing_box(boxes: Float[Array, "*#batch 4"], others: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch 4"]:
    """Return the smallest box around all four corners of each pair, px; corners of reversed boxes are not sorted.

    Args:
      boxes: Boxes, xyxy, px.
      others: Partners of the boxes, xyxy, px. The batch axes broadcast.
    """
    x1, y1, x2, y2 = corners(boxes)
    u1, v1, u2, v2 = corners(others)
    left = jnp.minimum(jnp.minimum(x1, u1), jnp.minimum(x2, u2))
    top = jnp.minimum(jnp.minimum(y1, v1), jnp.minimum(y2, v2))
    right = jnp.maximum(jnp.maximum(x1, u1), jnp.maximum(x2, u2))
    bottom = jnp.maximum(jnp.maximum(y1, v1), jnp.maximum(y2, v2))
    return narrow(jnp.stack([left, top, right, bottom], axis=-1), boxes, others)


def iou(boxes: Float[Array, "*#batch 4"], others: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """Return the intersection over union of each box and its partner, in [0, 1] up to rounding.

    Args:
      boxes: Boxes, xyxy, px.
      others: Partners, xyxy, px. The batch axes broadcast.

    Returns:
      IoU. It is 0, with zero gradient, where the union is below `numerics.AREA_FLOOR` px².

    Example:
      >>> import jax.numpy as jnp
      >>> print(iou(jnp.array([0.0, 0.0, 4.0, 4.0]), jnp.array([2.0, 0.0, 6.0, 4.0])))
      0.33333334
    """
    a, b = widen(boxes, others)
    shared = intersection(a, b)
    return narrow(ratio(shared, area(a) + area(b) - shared), boxes, others)


def pairwise_iou(boxes: Float[Array, "*batch n 4"], others: Float[Array, "*batch m 4"]) -> Float[Array, "*batch n m"]:
    """Return the IoU of every pair; coordinates are broadcast one by one, so that no [n, m, 4] array is made.

    Args:
      boxes: Boxes, xyxy, px, [..., n, 4].
      others: Other boxes, xyxy, px, [..., m, 4].

    Example:
      >>> import jax.numpy as jnp
      >>> a = jnp.array([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0]])
      >>> print(pairwise_iou(a, a[:1]))
      [[1.        ]
       [0.33333334]]
    """
    return iou(boxes[..., :, None, :], others[..., None, :, :])


def pairwise_coverage(
    boxes: Float[Array, "*batch n 4"], others: Float[Array, "*batch m 4"]
) -> Float[Array, "*batch n m"]:
    """Return the share of the area of every box that lies inside every other, in [0, 1]; 0 for a box without area.

    This is the measure for ignore regions: a small box inside a large region has coverage 1 and IoU near 0.

    Args:
      boxes: Boxes, xyxy, px, [..., n, 4].
      others: Other boxes or regions, xyxy, px, [..., m, 4].
    """
    a, b = widen(boxes[..., :, None, :], others[..., None, :, :])
    return narrow(ratio(intersection(a, b), area(a)), boxes, others)
