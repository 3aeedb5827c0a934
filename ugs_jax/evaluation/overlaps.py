"""Overlaps of boxes on the host, in NumPy. `ugs_jax.boxes` computes them on the device, differentiably."""

import numpy as np
from jaxtyping import Float


def areas(boxes: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch"]:
    """Return the areas of xyxy boxes, px²; that of a reversed box is 0."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def intersections(
    boxes: Float[np.ndarray, "*#batch 4"], others: Float[np.ndarray, "*#batch 4"]
) -> Float[np.ndarray, "*batch"]:
    """Return the areas that xyxy boxes share with others, px². Batch dimensions are broadcast."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    sides = np.maximum(high - low, 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(
    shared: Float[np.ndarray, "*batch"], area: Float[np.ndarray, "*#batch"], other_area: Float[np.ndarray, "*#batch"]
) -> Float[np.ndarray, "*batch"]:
    """Return intersections over unions, in [0, 1]; 0 if both boxes have no area.

    Areas are arguments because file formats store them, or width and height, whose product differs from the area
    between the corners by a rounding error.

    Args:
      shared: Intersections, px².
      area: Areas of the boxes, px².
      other_area: Areas of the other boxes, px².
    """
    return share(shared, area + other_area - shared)


def share(shared: Float[np.ndarray, "*batch"], whole: Float[np.ndarray, "*#batch"]) -> Float[np.ndarray, "*batch"]:
    """Return shared / whole; 0 if the whole is 0."""
    return np.divide(shared, whole, out=np.zeros_like(shared), where=np.broadcast_to(whole > 0, shared.shape))


def corners(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Convert boxes from left, top, width, height to xyxy."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
