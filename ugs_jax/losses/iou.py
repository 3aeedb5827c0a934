"""Losses on the overlap of predicted and target boxes: 1−IoU, −ln IoU, GIoU, DIoU, CIoU.

All take xyxy boxes in px and return one unreduced value per box. Values and gradients are finite for zero-area,
identical, touching, disjoint, reversed and huge boxes. Where two formulas meet (edges that coincide), the gradient is
the mean of their gradients.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ugs_jax.boxes.format import area, center_and_sides
from ugs_jax.boxes.overlap import enclosing_box, iou, union
from ugs_jax.numerics import SIDE_FLOOR, Scalar, narrow, ratio, widen


def iou_loss(boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """IoU loss 1 − IoU, in [0, 1]; disjoint boxes get no gradient.

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px. The batch axes broadcast.

    Example:
      >>> import jax.numpy as jnp
      >>> print(iou_loss(jnp.array([0.0, 0.0, 4.0, 4.0]), jnp.array([1.0, 0.0, 5.0, 4.0])))
      0.39999998
    """
    a, b = widen(boxes, targets)
    return narrow(1.0 - iou(a, b), boxes, targets)


def log_iou(
    boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"], *, floor: Scalar = 1e-6
) -> Float[Array, "*#batch"]:
    """Log-IoU loss −ln IoU, Eq. 7 of the supplement (Sun et al., ICCV 2025; first in Yu et al., UnitBox, 2016).

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px.
      floor: Lower bound of the IoU, in (0, 1). With 1e-6, disjoint boxes have the loss −ln 1e-6 = 13.8, without
        gradient.

    Returns:
      Unreduced loss.

    Raises:
      ValueError: `floor` is outside (0, 1).
    """
    if not 0 < floor < 1:
        raise ValueError(f"floor: expected an IoU in (0, 1), got {floor}")
    a, b = widen(boxes, targets)
    return narrow(-jnp.log(jnp.maximum(iou(a, b), floor)), boxes, targets)


def giou(boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """GIoU loss 1 − IoU + (C − U)/C with enclosing area C and union U, in [0, 2].

    Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, arXiv 1902.09630.

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px. The batch axes broadcast.

    Example:
      >>> import jax.numpy as jnp
      >>> print(giou(jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 0.0, 4.0, 1.0])))
      1.5
    """
    a, b = widen(boxes, targets)
    around = area(enclosing_box(a, b))
    return narrow(1.0 - iou(a, b) + ratio(around - union(a, b), around), boxes, targets)


def diou(boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """DIoU loss 1 − IoU + ρ²/c² with centre distance ρ and enclosing diagonal c, in [0, 2].

    Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv 1911.08287.

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px. The batch axes broadcast.
    """
    a, b = widen(boxes, targets)
    return narrow(1.0 - iou(a, b) + _centre_penalty(a, b), boxes, targets)


def ciou(boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"]) -> Float[Array, "*#batch"]:
    """CIoU loss: DIoU loss + αv with v = 4/π² · (Δ atan(w/h))², α = v/(1 − IoU + v + 1e-7).

    Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv 1911.08287.

    As published, α is treated as a constant, so the gradient is not that of the value. In v, sides shorter than
    `numerics.SIDE_FLOOR` px are replaced by that length.

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px. The batch axes broadcast.

    Example:
      >>> import jax.numpy as jnp
      >>> print(ciou(jnp.array([0.0, 0.0, 4.0, 4.0]), jnp.array([0.0, 0.0, 4.0, 4.0])))
      0.0
    """
    a, b = widen(boxes, targets)
    overlap = iou(a, b)
    aspect = _aspect_penalty(a, b)
    alpha = jax.lax.stop_gradient(aspect / (1.0 - overlap + aspect + 1e-7))
    return narrow(1.0 - overlap + _centre_penalty(a, b) + alpha * aspect, boxes, targets)


def _centre_penalty(a: Array, b: Array) -> Array:
    """Squared centre distance over squared enclosing diagonal, ρ²/c²."""
    shift = center_and_sides(a)[0] - center_and_sides(b)[0]
    around = center_and_sides(enclosing_box(a, b))[1]
    return ratio(jnp.sum(jnp.square(shift), axis=-1), jnp.sum(jnp.square(around), axis=-1))


def _aspect_penalty(a: Array, b: Array) -> Array:
    """4/π² · (Δ atan(w/h))², called v in the paper."""
    return (4 / math.pi**2) * jnp.square(_aspect_angle(a) - _aspect_angle(b))


def _aspect_angle(boxes: Array) -> Array:
    sides = jnp.maximum(center_and_sides(boxes)[1], SIDE_FLOOR)
    return jnp.arctan2(sides[..., 0], sides[..., 1])
