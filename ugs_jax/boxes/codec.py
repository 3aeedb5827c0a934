"""Boxes as offsets from anchors: centre shifts in units of the anchor, and logarithms of size ratios."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ugs_jax.boxes.format import center_and_sides
from ugs_jax.numerics import SIDE_FLOOR, narrow, widen

LOG_SIZE_LIMIT = 20.0
"""`decode` clips log size ratios to ± this value: box sides over anchor sides stay within e^±20 = 4.9e8^±1."""


class Anchors(NamedTuple):
    """Anchors, from which the offsets of boxes are measured.

    Attributes:
      center: Centre (x, y), px.
      size: Sides (w, h), px, > 0.
      unit: Pixels per 1.0 of centre offset: the stride for YOLO and FCOS cells, the anchor's sides for R-CNN.
    """

    center: Float[Array, "*batch 2"]
    size: Float[Array, "*batch 2"]
    unit: Float[Array, "*batch 2"]

    @classmethod
    def from_boxes(cls, boxes: Float[Array, "*batch 4"]) -> "Anchors":
        """Return boxes (xyxy, px) as anchors, with their sides (at least `SIDE_FLOOR`) as the unit."""
        center, size = _center_size(boxes)
        center, size = narrow(center, boxes), narrow(size, boxes)
        return cls(center, size, size)


def encode(boxes: Float[Array, "*#batch 4"], anchors: Anchors) -> Float[Array, "*#batch 4"]:
    """Return the offsets ((cx−ax)/ux, (cy−ay)/uy, log(w/aw), log(h/ah)) of boxes from their anchors.

    Args:
      boxes: Boxes, xyxy, px. Sides below `numerics.SIDE_FLOOR` px (zero, or negative in a reversed box) are replaced by
        that length, so the result is always finite.
      anchors: Anchors of the boxes. Their batch axes broadcast against those of `boxes`.

    Returns:
      Offsets in units of the anchor. Girshick et al., CVPR 2014, appendix C.

    Example:
      >>> import jax.numpy as jnp
      >>> anchors = Anchors(center=jnp.array([4.0, 4.0]), size=jnp.array([8.0, 8.0]), unit=jnp.array([8.0, 8.0]))
      >>> print(encode(jnp.array([4.0, 0.0, 12.0, 8.0]), anchors))
      [0.5 0.  0.  0. ]
    """
    center, size = _center_size(boxes)
    anchor_center, anchor_size, unit = widen(*anchors)
    anchor_size, unit = jnp.maximum(anchor_size, SIDE_FLOOR), jnp.maximum(unit, SIDE_FLOOR)
    offsets = [(center - anchor_center) / unit, jnp.log(size) - jnp.log(anchor_size)]
    return narrow(jnp.concatenate(jnp.broadcast_arrays(*offsets), axis=-1), boxes, *anchors)


def decode(offsets: Float[Array, "*#batch 4"], anchors: Anchors) -> Float[Array, "*#batch 4"]:
    """Return the boxes (xyxy, px) of offsets; the inverse of `encode`.

    Args:
      offsets: Offsets, as `encode` returns them. Log sizes beyond ±`LOG_SIZE_LIMIT` are clipped (and get no gradient),
        so that no finite network output overflows.
      anchors: Anchors of the offsets. Their batch axes broadcast against those of `offsets`.

    Example:
      >>> import jax.numpy as jnp
      >>> anchors = Anchors.from_boxes(jnp.array([0.0, 0.0, 8.0, 8.0]))
      >>> print(decode(jnp.array([0.5, 0.0, 0.0, 0.0]), anchors))
      [ 4.  0. 12.  8.]
    """
    (wide,) = widen(offsets)
    anchor_center, anchor_size, unit = widen(*anchors)
    center = anchor_center + wide[..., :2] * unit
    half = anchor_size * jnp.exp(jnp.clip(wide[..., 2:], -LOG_SIZE_LIMIT, LOG_SIZE_LIMIT)) / 2
    return narrow(jnp.concatenate([center - half, center + half], axis=-1), offsets, *anchors)


def _center_size(boxes: Array) -> tuple[Array, Array]:
    center, sides = center_and_sides(boxes)
    return center, jnp.maximum(sides, SIDE_FLOOR)
