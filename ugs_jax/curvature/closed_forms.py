"""Hessians of box losses in closed form, one 4×4 matrix a box, and how far they can grow with the size of the box.

Everything is written for a predicted box in px against a target, and depends on neither `ugs_jax.losses` nor
`ugs_jax.boxes`: an independent check on them. All Hessians are symmetric. Where a loss has a kink (an edge passes an
edge of the target, or the boxes touch), they are the Hessians of the piece that ties are counted to.

Two ideas carry most of it. The area of a box and of its overlap with another, and of the smallest box around both, are
products of two sides, each linear in the coordinates that move it: value, gradient and Hessian of such a product are
`_product`. And distances between centres and sizes are norms of a linear map: `_radial`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Derivatives(NamedTuple):
    """Value [...], gradient [..., 4] and Hessian [..., 4, 4] by the coordinates of the predicted box."""

    value: Array
    gradient: Array
    hessian: Array


def l2(boxes: Array, targets: Array, anchors: Array) -> Array:
    """Hessian by (cx, cy, w, h) px of L2 in anchor encoding, Σ ((c − ĉ)/a)² + Σ log²(s/ŝ).

    diag(2/w_a², 2/h_a², 2(1 + log(w/ŵ))/ŵ², 2(1 + log(h/ĥ))/ĥ²).

    Args:
      boxes: predicted (cx, cy, w, h) px, [..., 4].
      targets: likewise.
      anchors: sides (w_a, h_a) px, [..., 2].

    Returns:
      [..., 4, 4], 1/px².
    """
    size, wanted = boxes[..., 2:], targets[..., 2:]
    of_center = jnp.broadcast_to(2 / anchors**2, size.shape)
    of_size = 2 * (1 + jnp.log(wanted / size)) / size**2
    return _diagonal(jnp.concatenate([of_center, of_size], axis=-1))


def iou_loss(boxes: Array, targets: Array) -> Array:
    """Hessian by (x1, y1, x2, y2) px of 1 − IoU; zero where the boxes do not overlap.

    Args:
      boxes: predicted, xyxy px, [..., 4].
      targets: likewise.

    Returns:
      [..., 4, 4], 1/px².
    """
    inter, union = _intersection(boxes, targets), _union(boxes, targets)
    return -_quotient(inter, union).hessian


def log_iou(boxes: Array, targets: Array) -> Array:
    """Hessian by (x1, y1, x2, y2) px of −ln IoU; not a number where the boxes do not overlap.

    Args:
      boxes: predicted, xyxy px, [..., 4].
      targets: likewise.

    Returns:
      [..., 4, 4], 1/px².
    """
    return _log(_union(boxes, targets)) - _log(_intersection(boxes, targets))


def giou(boxes: Array, targets: Array) -> Array:
    """Hessian by (x1, y1, x2, y2) px of 1 − GIoU = 2 − IoU − U/C, with C the smallest box around both.

    Args:
      boxes: predicted, xyxy px, [..., 4].
      targets: likewise.

    Returns:
      [..., 4, 4], 1/px².
    """
    inter, union = _intersection(boxes, targets), _union(boxes, targets)
    return -_quotient(inter, union).hessian - _quotient(union, _hull(boxes, targets)).hessian


def nwd(boxes: Array, targets: Array, constant: float) -> Array:
    """Hessian by (cx, cy, w, h) px of 1 − exp(−W₂/constant), W₂² = Δcx² + Δcy² + (Δw² + Δh²)/4.

    Args:
      boxes: predicted (cx, cy, w, h) px, [..., 4].
      targets: likewise.
      constant: the data set's mean absolute object size, px.

    Returns:
      [..., 4, 4], 1/px². Not a number at equal boxes, where the loss has the kink of a norm.
    """
    return _radial(boxes - targets, jnp.array([1.0, 1.0, 0.25, 0.25]), constant)


def dotd(centers: Array, targets: Array, constant: float) -> Array:
    """Hessian by (cx, cy) px of 1 − exp(−D/constant), D the distance of the centres.

    Args:
      centers: predicted (cx, cy) px, [..., 2].
      targets: likewise.
      constant: the data set's mean object size √(wh), px.

    Returns:
      [..., 2, 2], 1/px². Not a number at equal centres, where the loss has the kink of a norm.
    """
    return _radial(centers - targets, jnp.ones(2), constant)


def cross_entropy(logits: Array) -> Array:
    """Hessian by the logits of any cross entropy: diag(p) − ppᵀ, whatever the label; eigenvalues in [0, ½].

    Args:
      logits: [..., bins].

    Returns:
      [..., bins, bins].
    """
    p = _softmax(logits)
    return _diagonal(p) - p[..., :, None] * p[..., None, :]


def entropy(logits: Array) -> Array:
    """Hessian by the logits of the entropy of the prediction.

    With a_i = log p_i + H: −(diag(p∘(a + 1)) − p∘a pᵀ − p (p∘a)ᵀ − ppᵀ).

    Args:
      logits: [..., bins].

    Returns:
      [..., bins, bins].
    """
    p = _softmax(logits)
    log_p = logits - jnp.max(logits, axis=-1, keepdims=True)
    log_p = log_p - jnp.log(jnp.sum(jnp.exp(log_p), axis=-1, keepdims=True))
    weighted = p * (log_p - jnp.sum(p * log_p, axis=-1, keepdims=True))
    outer = weighted[..., :, None] * p[..., None, :]
    return outer + jnp.swapaxes(outer, -1, -2) + p[..., :, None] * p[..., None, :] - _diagonal(weighted + p)


def _product(sides: tuple[Array, Array], moves: tuple[Array, Array, Array, Array]) -> Derivatives:
    """Derivatives of width · height; `moves` says of x1, y1, x2 and y2 whether (1) or not (0) it moves its side."""
    width, height = sides
    x1, y1, x2, y2 = moves
    gradient = jnp.stack([-x1 * height, -y1 * width, x2 * height, y2 * width], axis=-1)
    by_x = jnp.stack([-x1, jnp.zeros_like(x1), x2, jnp.zeros_like(x1)], axis=-1)
    by_y = jnp.stack([jnp.zeros_like(x1), -y1, jnp.zeros_like(x1), y2], axis=-1)
    mixed = by_x[..., :, None] * by_y[..., None, :]
    return Derivatives(width * height, gradient, mixed + jnp.swapaxes(mixed, -1, -2))


def _area(boxes: Array) -> Derivatives:
    sides = boxes[..., 2:] - boxes[..., :2]
    one = jnp.ones_like(sides[..., 0])
    return _product((sides[..., 0], sides[..., 1]), (one, one, one, one))


def _intersection(boxes: Array, targets: Array) -> Derivatives:
    low, high = jnp.maximum(boxes[..., :2], targets[..., :2]), jnp.minimum(boxes[..., 2:], targets[..., 2:])
    sides = jnp.maximum(high - low, 0)
    touch = jnp.all(sides > 0, axis=-1, keepdims=True)
    moves = jnp.concatenate([boxes[..., :2] > targets[..., :2], boxes[..., 2:] < targets[..., 2:]], axis=-1) & touch
    return _product((sides[..., 0], sides[..., 1]), _columns(moves.astype(boxes.dtype)))


def _hull(boxes: Array, targets: Array) -> Derivatives:
    low, high = jnp.minimum(boxes[..., :2], targets[..., :2]), jnp.maximum(boxes[..., 2:], targets[..., 2:])
    sides = high - low
    moves = jnp.concatenate([boxes[..., :2] < targets[..., :2], boxes[..., 2:] > targets[..., 2:]], axis=-1)
    return _product((sides[..., 0], sides[..., 1]), _columns(moves.astype(boxes.dtype)))


def _union(boxes: Array, targets: Array) -> Derivatives:
    own, inter = _area(boxes), _intersection(boxes, targets)
    sides = targets[..., 2:] - targets[..., :2]
    other = sides[..., 0] * sides[..., 1]
    return Derivatives(own.value + other - inter.value, own.gradient - inter.gradient, own.hessian - inter.hessian)


def _quotient(a: Derivatives, b: Derivatives) -> Derivatives:
    """Derivatives of a/b."""
    value = a.value / b.value
    gradient = (a.gradient - value[..., None] * b.gradient) / b.value[..., None]
    mixed = gradient[..., :, None] * b.gradient[..., None, :]
    hessian = a.hessian - value[..., None, None] * b.hessian - mixed - jnp.swapaxes(mixed, -1, -2)
    return Derivatives(value, gradient, hessian / b.value[..., None, None])


def _log(a: Derivatives) -> Array:
    """Hessian of log a."""
    relative = a.gradient / a.value[..., None]
    return a.hessian / a.value[..., None, None] - relative[..., :, None] * relative[..., None, :]


def _radial(difference: Array, weights: Array, constant: float) -> Array:
    """Hessian of 1 − e^(−r/c), r² = Σ weights·difference²: e^(−r/c)/(c r) · (D − (1/r² + 1/(c r)) Dδ (Dδ)ᵀ)."""
    scaled = weights.astype(difference.dtype) * difference
    r = jnp.sqrt(jnp.sum(scaled * difference, axis=-1))[..., None, None]
    outer = scaled[..., :, None] * scaled[..., None, :]
    diagonal = _diagonal(jnp.broadcast_to(weights.astype(difference.dtype), difference.shape))
    return jnp.exp(-r / constant) / (constant * r) * (diagonal - (1 / r**2 + 1 / (constant * r)) * outer)


def _softmax(logits: Array) -> Array:
    exponents = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    return exponents / jnp.sum(exponents, axis=-1, keepdims=True)


def _columns(moves: Array) -> tuple[Array, Array, Array, Array]:
    return moves[..., 0], moves[..., 1], moves[..., 2], moves[..., 3]


def _diagonal(values: Array) -> Array:
    return values[..., :, None] * jnp.eye(values.shape[-1], dtype=values.dtype)
