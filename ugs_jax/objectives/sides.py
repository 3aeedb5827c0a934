"""Boxes as distances from the anchor's centre to the four sides, shared by the objectives that predict them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax.numerics import widen
from ugs_jax.objectives.start_layer import Expected, layer_with_means, standard_outputs

SIDES = ("left", "top", "right", "bottom")
"""Names of the four distances, in their order."""


def distances(anchors: bx.Anchors, boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Return the distances to the left, upper, right and lower side of boxes, in units of the anchors.

    A distance is negative if the whole box is on the other side of the anchor's centre.

    Args:
      anchors: Anchor of every box, px.
      boxes: Boxes, xyxy px.
    """
    (wide,) = widen(boxes)
    sides = jnp.concatenate([anchors.center - wide[..., :2], wide[..., 2:] - anchors.center], axis=-1)
    return sides / jnp.concatenate([anchors.unit, anchors.unit], axis=-1)


def box_at(distances: Float[Array, "*batch 4"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
    """Return the boxes with the given distances, xyxy px. Sides that cross collapse to the point between them.

    Args:
      distances: Distances to the left, upper, right and lower side, in units of the anchors.
      anchors: Anchor of every box, px.
    """
    low = anchors.center - distances[..., :2] * anchors.unit
    high = anchors.center + distances[..., 2:] * anchors.unit
    middle = (low + high) / 2
    return jnp.concatenate([jnp.minimum(low, middle), jnp.maximum(high, middle)], axis=-1)


def in_px(distances: Float[Array, "*batch 4"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
    """Return lengths along (x, y, x, y) in px.

    Args:
      distances: Lengths in units of the anchors, such as the deviations of four distances.
      anchors: Anchor of every box, px.
    """
    return distances * jnp.concatenate([anchors.unit, anchors.unit], axis=-1)


def layer_of_distances(
    points: Float[np.ndarray, "bins"],
    kernel: Float[np.ndarray, "c a 4"],
    bias: Float[np.ndarray, "a 4"],
    published_anchors: Float[np.ndarray, "a 2"],
    stride: int,
    width: Float[np.ndarray, "4"],
) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
    """Return kernel and bias of a layer of distances that decodes like a regression layer.

    Args:
      points: Grid of the distances, in strides.
      kernel: The published 1×1 layer from features to (x, y, w, h) of every anchor.
      bias: Bias of the published layer.
      published_anchors: Anchor sides (w, h) with which the published layer was trained, px.
      stride: Pixels per cell.
      width: Standard deviation of the predicted (x, y, log w, log h), with the centre in strides.
    """
    nodes, weights = standard_outputs()
    center, size = (axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing="ij"))
    samples, both = np.stack([center, size], axis=1), np.outer(weights, weights).ravel()
    shift, growth = 2 / (1 + np.exp(-center)) - 1, np.square(2 / (1 + np.exp(-size)))

    def expected(side: int, a: int) -> Expected:
        axis, sign = side % 2, -1 if side < 2 else 1
        half = published_anchors[a, axis] / (2 * stride)
        spread = float(np.hypot(width[axis], half * width[2 + axis]))
        return Expected(points, spread, (axis, 2 + axis), samples, both, sign * shift + half * growth)

    return layer_with_means(kernel, bias, expected)
