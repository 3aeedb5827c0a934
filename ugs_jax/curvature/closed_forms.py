"""Hessians of box losses in closed form, one 4×4 matrix for each box.

Each function takes predicted boxes and targets in px. This module imports neither `ugs_jax.losses` nor `ugs_jax.boxes`,
so it is an independent check of them. All Hessians are symmetric and finite. Where a loss has a kink (an edge passes an
edge of the target, or the boxes touch), slopes are the means of both sides, as autodiff of `jnp.minimum` has them.

Areas, distances and angles of boxes are built with `curvature.geometry`. NWD and DotD are functions of a weighted
norm of the difference of the boxes: `radial`. `experiments/results/hessian.md` has their speed under `jax.jit`.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from ugs_jax.curvature.derivatives import log, matrix, product, quotient, square
from ugs_jax.curvature.geometry import angle, distance, hull, intersection, union

ASPECT_SCALE = 4 / math.pi**2
"""Scale that maps the squared difference of angles, at most (π/2)², to [0, 1]; it defines v of CIoU."""

LENGTH_FLOOR = 1e-8
"""Smallest distance, px, of NWD and DotD. Their Hessians are 0 up to it, where the loss has the kink of a norm."""

LOGIT_LIMIT = 1e30
"""Largest absolute logit. A loss is constant in logits beyond it."""


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
    overlap = quotient(intersection(boxes, targets), union(boxes, targets))
    return matrix(lambda i, j: -overlap.hessian(i, j))


def log_iou(boxes: Array, targets: Array, floor: float = 0.0) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of −ln max(IoU, floor), zero where IoU ≤ floor.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.
      floor: Lower bound of the IoU.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    inter, both = intersection(boxes, targets), union(boxes, targets)
    above = quotient(inter, both).value > floor
    log_inter, log_union = log(inter), log(both)
    return matrix(lambda i, j: jnp.where(above, log_union.hessian(i, j) - log_inter.hessian(i, j), 0))


def giou(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of 1 − GIoU = 2 − IoU − U/C, with C the smallest box around both.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    inter, both = intersection(boxes, targets), union(boxes, targets)
    overlap, filled = quotient(inter, both), quotient(both, product(*hull(boxes, targets)))
    return matrix(lambda i, j: -overlap.hessian(i, j) - filled.hessian(i, j))


def diou(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of DIoU, 1 − IoU + ρ²/c².

    ρ is the distance of the centres, and c the diagonal of the smallest box around both.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    overlap, apart = quotient(intersection(boxes, targets), union(boxes, targets)), distance(boxes, targets)
    return matrix(lambda i, j: apart.hessian(i, j) - overlap.hessian(i, j))


def ciou(boxes: Array, targets: Array) -> Array:
    """Return the Hessian by (x1, y1, x2, y2) px of CIoU, 1 − IoU + ρ²/c² + αv, with α held constant.

    ρ is the distance of the centres, c the diagonal of the smallest box around both, v = 4/π² · (Δ atan(w/h))² and
    α = v/(1 − IoU + v + 1e-7). As published, α is a constant for the gradient. Here it is also a constant for
    the second derivative. The result is what autodiff computes from the loss, not the Hessian of its value.

    Args:
      boxes: Predicted boxes, xyxy px, [..., 4].
      targets: Target boxes in the same format.

    Returns:
      Hessians [..., 4, 4], 1/px².

    References:
      Zheng et al., Distance-IoU Loss, AAAI 2020.
    """
    overlap = quotient(intersection(boxes, targets), union(boxes, targets))
    apart, aspect = distance(boxes, targets), square(angle(boxes, targets))
    v = ASPECT_SCALE * aspect.value
    weight = ASPECT_SCALE * v / (1 - overlap.value + v + 1e-7)
    return matrix(lambda i, j: apart.hessian(i, j) - overlap.hessian(i, j) + weight * aspect.hessian(i, j))


def nwd(boxes: Array, targets: Array, constant: float) -> Array:
    """Return the Hessian by (cx, cy, w, h) px of 1 − exp(−W₂/constant), W₂² = Δcx² + Δcy² + (Δw² + Δh²)/4.

    Args:
      boxes: Predicted boxes (cx, cy, w, h) px, [..., 4].
      targets: Target boxes in the same format.
      constant: Mean absolute object size of the data set, px.

    Returns:
      Hessians [..., 4, 4], 1/px².
    """
    return radial(boxes - targets, (1.0, 1.0, 0.25, 0.25), constant)


def dotd(centers: Array, targets: Array, constant: float) -> Array:
    """Return the Hessian by (cx, cy) px of 1 − exp(−D/constant), with D the distance of the centres.

    Args:
      centers: Predicted centres (cx, cy) px, [..., 2].
      targets: Target centres in the same format.
      constant: Mean object size √(wh) of the data set, px.

    Returns:
      Hessians [..., 2, 2], 1/px².
    """
    return radial(centers - targets, (1.0, 1.0), constant)


def cross_entropy(logits: Array) -> Array:
    """Return the Hessian by the logits of any cross entropy: diag(p) − ppᵀ for any label. Eigenvalues lie in [0, ½].

    Args:
      logits: Logits [..., bins].

    Returns:
      Hessians [..., bins, bins].
    """
    p = jnp.where(jnp.abs(logits) <= LOGIT_LIMIT, jnp.exp(_log_softmax(logits)), 0)
    return _diagonal(p) - p[..., :, None] * p[..., None, :]


def entropy(logits: Array) -> Array:
    """Return the Hessian by the logits of the entropy of the prediction.

    With a_i = log p_i + H, it is −(diag(p∘(a + 1)) − p∘a pᵀ − p (p∘a)ᵀ − ppᵀ).

    Args:
      logits: Logits [..., bins].

    Returns:
      Hessians [..., bins, bins].
    """
    log_p = _log_softmax(logits)
    p = jnp.exp(log_p)
    negative_entropy = jnp.sum(p * log_p, axis=-1, keepdims=True)
    p = jnp.where(jnp.abs(logits) <= LOGIT_LIMIT, p, 0)
    weighted = p * (log_p - negative_entropy)
    outer = weighted[..., :, None] * p[..., None, :]
    return outer + jnp.swapaxes(outer, -1, -2) + p[..., :, None] * p[..., None, :] - _diagonal(weighted + p)


def radial(difference: Array, weights: Sequence[float], constant: float) -> Array:
    """Return the Hessian by the difference of 1 − e^(−r/c), r² = Σ weights·difference².

    It is e^(−r/c)/(c r) · (D − (1/r² + 1/(c r)) Dδ (Dδ)ᵀ), and 0 for r up to `LENGTH_FLOOR`.

    Args:
      difference: Differences δ, px, [..., d].
      weights: Diagonal of D, d numbers > 0.
      constant: Length c, px.

    Returns:
      Hessians [..., d, d], 1/px².
    """
    scale = jnp.asarray(weights, difference.dtype)
    scaled = scale * difference
    squared = jnp.sum(scaled * difference, axis=-1)[..., None, None]
    regular = squared > LENGTH_FLOOR**2
    r = jnp.sqrt(jnp.where(regular, squared, 1))
    outer = scaled[..., :, None] * scaled[..., None, :]
    matrices = jnp.exp(-r / constant) / (constant * r) * (jnp.diag(scale) - (1 / r**2 + 1 / (constant * r)) * outer)
    return jnp.where(regular, matrices, 0)


def _log_softmax(logits: Array) -> Array:
    bounded = jnp.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)
    shifted = bounded - jnp.max(bounded, axis=-1, keepdims=True)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def _diagonal(values: Array) -> Array:
    return values[..., :, None] * jnp.eye(values.shape[-1], dtype=values.dtype)
