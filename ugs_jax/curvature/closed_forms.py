"""Hessians of box losses in closed form, one 4×4 matrix for each box.

Each function takes predicted boxes and targets in px. This module imports neither `ugs_jax.losses` nor `ugs_jax.boxes`,
so it is an independent check of them. All Hessians are symmetric. Where a loss has a kink (an edge passes an edge of
the target, or the boxes touch), the result is the Hessian of the piece to which ties are counted.

Areas, distances and angles of boxes are built with `curvature.derivatives`. NWD and DotD are functions of a weighted
norm of the difference of the boxes: `_radial`. Under `jax.jit` the Hessians of the box losses cost three to six
times a copy of their result (`experiments/results/hessian.md`).
"""

import math

import jax.numpy as jnp
from jax import Array

from ugs_jax.curvature.derivatives import (
    OUTWARD,
    Column,
    Derivatives,
    Four,
    columns,
    log,
    matrix,
    product,
    quotient,
    square,
    sum_of_squares,
)

ASPECT_SCALE = 4 / math.pi**2
"""Scale that maps the squared difference of angles, at most (π/2)², to [0, 1]; it defines v of CIoU."""


def l2(boxes: Array, targets: Array, anchors: Array) -> Array:
    """Return the Hessian by (cx, cy, w, h) px of L2 in anchor encoding, Σ ((c − ĉ)/a)² + Σ log²(s/ŝ).

    It is diag(2/w_a², 2/h_a², 2(1 + log(w/ŵ))/ŵ², 2(1 + log(h/ĥ))/ĥ²).

    Args:
      boxes: Predicted boxes (cx, cy, w, h) px, [..., 4].
      targets: Target boxes in the same format.
      anchors: Sides (w_a, h_a) of the anchors, px, [..., 2].

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    size, wanted = boxes[..., 2:], targets[..., 2:]
    of_center = jnp.broadcast_to(2 / anchors**2, size.shape)
    of_size = 2 * (1 + jnp.log(wanted / size)) / size**2
    return _diagonal(jnp.concatenate([of_center, of_size], axis=-1))


def iou_loss(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of 1 − IoU. It is zero where the boxes do not overlap.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    overlap = quotient(_intersection(boxes, targets), _union(boxes, targets))
    return matrix(lambda i, j: -overlap.hessian(i, j))


def log_iou(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of −ln IoU. It is NaN where the boxes do not overlap.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    inter, union = log(_intersection(boxes, targets)), log(_union(boxes, targets))
    return matrix(lambda i, j: union.hessian(i, j) - inter.hessian(i, j))


def giou(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of 1 − GIoU = 2 − IoU − U/C, with C the smallest box around both.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    inter, union = _intersection(boxes, targets), _union(boxes, targets)
    overlap, filled = quotient(inter, union), quotient(union, product(*_hull(boxes, targets)))
    return matrix(lambda i, j: -overlap.hessian(i, j) - filled.hessian(i, j))


def ciou(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of CIoU, 1 − IoU + ρ²/c² + αv, with α held constant.

    ρ is the distance of the centres, c the diagonal of the smallest box around both, v = 4/π² · (Δ atan(w/h))² and
    α = v/(1 − IoU + v + 1e-7). As published, α is a constant for the gradient. Here it is also a constant for
    the second derivative. The result is what autodiff computes from the loss, not the Hessian of its value.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4], with sides > 0.
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².

    References:
      Zheng et al., Distance-IoU Loss, AAAI 2020.
    """
    overlap = quotient(_intersection(boxes, targets), _union(boxes, targets))
    distance = quotient(_center_distance(boxes, targets), sum_of_squares(*_hull(boxes, targets)))
    aspect = square(_angle(boxes, targets))
    v = ASPECT_SCALE * aspect.value
    weight = ASPECT_SCALE * v / (1 - overlap.value + v + 1e-7)
    return matrix(lambda i, j: distance.hessian(i, j) - overlap.hessian(i, j) + weight * aspect.hessian(i, j))


def nwd(boxes: Array, targets: Array, constant: float) -> Array:
    """Return the Hessian by (cx, cy, w, h) px of 1 − exp(−W₂/constant), W₂² = Δcx² + Δcy² + (Δw² + Δh²)/4.

    Args:
      boxes: Predicted boxes (cx, cy, w, h) px, [..., 4].
      targets: Target boxes in the same format.
      constant: Mean absolute object size of the data set, px.

    Returns:
      Hessians [..., 4, 4], 1/px². They are NaN at equal boxes, where the loss has the kink of a norm.
    """
    return _radial(boxes - targets, jnp.array([1.0, 1.0, 0.25, 0.25]), constant)


def dotd(centers: Array, targets: Array, constant: float) -> Array:
    """Return the Hessian by (cx, cy) px of 1 − exp(−D/constant), with D the distance of the centres.

    Args:
      centers: Predicted centres (cx, cy) px, [..., 2].
      targets: Target centres in the same format.
      constant: Mean object size √(wh) of the data set, px.

    Returns:
      Hessians [..., 2, 2], 1/px². They are NaN at equal centres, where the loss has the kink of a norm.
    """
    return _radial(centers - targets, jnp.ones(2), constant)


def cross_entropy(logits: Array) -> Array:
    """Return the Hessian by the logits of any cross entropy: diag(p) − ppᵀ for any label. Eigenvalues lie in [0, ½].

    Args:
      logits: Logits [..., bins].

    Returns:
      Hessians [..., bins, bins].
    """
    p = _softmax(logits)
    return _diagonal(p) - p[..., :, None] * p[..., None, :]


def entropy(logits: Array) -> Array:
    """Return the Hessian by the logits of the entropy of the prediction.

    With a_i = log p_i + H, it is −(diag(p∘(a + 1)) − p∘a pᵀ − p (p∘a)ᵀ − ppᵀ).

    Args:
      logits: Logits [..., bins].

    Returns:
      Hessians [..., bins, bins].
    """
    p = _softmax(logits)
    log_p = logits - jnp.max(logits, axis=-1, keepdims=True)
    log_p = log_p - jnp.log(jnp.sum(jnp.exp(log_p), axis=-1, keepdims=True))
    weighted = p * (log_p - jnp.sum(p * log_p, axis=-1, keepdims=True))
    outer = weighted[..., :, None] * p[..., None, :]
    return outer + jnp.swapaxes(outer, -1, -2) + p[..., :, None] * p[..., None, :] - _diagonal(weighted + p)


def _sides(boxes: Array) -> tuple[Column, Column]:
    x1, y1, x2, y2 = columns(boxes)
    return x2 - x1, y2 - y1


def _intersection(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the area of overlap. An edge changes the area where it lies inside the target."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = columns(boxes), columns(targets)
    width, height = jnp.minimum(x2, u2) - jnp.maximum(x1, u1), jnp.minimum(y2, v2) - jnp.maximum(y1, v1)
    touch = (width > 0) & (height > 0)
    inside = (x1 > u1, y1 > v1, x2 < u2, y2 < v2)
    slopes = tuple(jnp.where(moves & touch, slope, 0.0) for moves, slope in zip(inside, OUTWARD, strict=True))
    return product((jnp.maximum(width, 0), jnp.maximum(height, 0)), slopes)


def _union(boxes: Array, targets: Array) -> Derivatives:
    own, inter = product(_sides(boxes), OUTWARD), _intersection(boxes, targets)
    width, height = _sides(targets)
    gradient = tuple(a - b for a, b in zip(own.gradient, inter.gradient, strict=True))
    return Derivatives(
        own.value + width * height - inter.value, gradient, lambda i, j: own.hessian(i, j) - inter.hessian(i, j)
    )


def _hull(boxes: Array, targets: Array) -> tuple[tuple[Column, Column], Four]:
    """Return the sides of the smallest box around both, and their slopes.

    An edge moves a side where it lies outside the target.
    """
    (x1, y1, x2, y2), (u1, v1, u2, v2) = columns(boxes), columns(targets)
    width, height = jnp.maximum(x2, u2) - jnp.minimum(x1, u1), jnp.maximum(y2, v2) - jnp.minimum(y1, v1)
    outside = (x1 < u1, y1 < v1, x2 > u2, y2 > v2)
    return (width, height), tuple(jnp.where(moves, slope, 0.0) for moves, slope in zip(outside, OUTWARD, strict=True))


def _center_distance(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the squared distance of the centres."""
    x1, y1, x2, y2 = (a - b for a, b in zip(columns(boxes), columns(targets), strict=True))
    return sum_of_squares(((x1 + x2) / 2, (y1 + y2) / 2), (0.5, 0.5, 0.5, 0.5))


def _angle(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the difference of the angles atan(w/h).

    The difference is computed as one angle, which keeps its digits where the two are nearly equal.
    """
    (w, h), (wanted_w, wanted_h) = _sides(boxes), _sides(targets)
    value = jnp.arctan2(w * wanted_h - h * wanted_w, h * wanted_h + w * wanted_w)
    inverse = 1 / (w**2 + h**2)
    by_w, by_h = h * inverse, -w * inverse
    second = {(0, 0): 2 * by_w * by_h, (0, 1): by_h**2 - by_w**2, (1, 1): -2 * by_w * by_h}

    def hessian(i: int, j: int) -> Column:
        return OUTWARD[i] * OUTWARD[j] * second[min(i % 2, j % 2), max(i % 2, j % 2)]

    return Derivatives(value, (-by_w, -by_h, by_w, by_h), hessian)


def _radial(difference: Array, weights: Array, constant: float) -> Array:
    """Return the Hessian of 1 − e^(−r/c), r² = Σ weights·difference².

    It is e^(−r/c)/(c r) · (D − (1/r² + 1/(c r)) Dδ (Dδ)ᵀ).
    """
    scaled = weights.astype(difference.dtype) * difference
    r = jnp.sqrt(jnp.sum(scaled * difference, axis=-1))[..., None, None]
    outer = scaled[..., :, None] * scaled[..., None, :]
    diagonal = _diagonal(jnp.broadcast_to(weights.astype(difference.dtype), difference.shape))
    return jnp.exp(-r / constant) / (constant * r) * (diagonal - (1 / r**2 + 1 / (constant * r)) * outer)


def _softmax(logits: Array) -> Array:
    exponents = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    return exponents / jnp.sum(exponents, axis=-1, keepdims=True)


def _diagonal(values: Array) -> Array:
    return values[..., :, None] * jnp.eye(values.shape[-1], dtype=values.dtype)
