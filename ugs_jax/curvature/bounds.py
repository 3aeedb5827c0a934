"""How steep losses of boxes can get: upper bounds of the largest eigenvalue of their Hessians, by the size of the box.

A step along the gradient shorter than 2/bound does not overshoot. Hessians and coordinates are those of `closed_forms`;
`ugs verify` checks every bound (A1-A9).
"""

import jax
import jax.numpy as jnp
from jax import Array


def l2(boxes: Array, targets: Array, anchors: Array) -> Array:
    """L2 in anchor encoding: 2/a² for the centre, 2(1 + max(0, log w/ŵ))/ŵ² for a side; it grows with 1/size².

    Args:
      boxes: predicted (cx, cy, w, h) px, [..., 4].
      targets: likewise.
      anchors: sides px, [..., 2].

    Returns:
      [...], 1/px².
    """
    size, wanted = boxes[..., 2:], targets[..., 2:]
    of_size = 2 * (1 + jnp.maximum(jnp.log(wanted / size), 0)) / size**2
    return jnp.maximum(2 / jnp.min(anchors, axis=-1) ** 2, jnp.max(of_size, axis=-1))


def log_iou(boxes: Array) -> Array:
    """−ln IoU of predicted boxes (xyxy px, [..., 4]) whose IoU exceeds ½: 22/s², s the shorter side; 1/px²."""
    return 22 / jnp.min(boxes[..., 2:] - boxes[..., :2], axis=-1) ** 2


def iou_loss(boxes: Array) -> Array:
    """1 − IoU of predicted boxes (xyxy px, [..., 4]): (4 + 8(r + 1/r))/wh, r = w/h; 1/px²."""
    sides = boxes[..., 2:] - boxes[..., :2]
    width, height = sides[..., 0], sides[..., 1]
    return (4 + 8 * (width / height + height / width)) / (width * height)


def giou(boxes: Array, targets: Array) -> Array:
    """1 − GIoU: the bound of 1 − IoU, and the same of the smallest box around both (xyxy px, [..., 4]); 1/px²."""
    low, high = jnp.minimum(boxes[..., :2], targets[..., :2]), jnp.maximum(boxes[..., 2:], targets[..., 2:])
    return iou_loss(boxes) + iou_loss(jnp.concatenate([low, high], axis=-1))


def ciou(boxes: Array) -> Array:
    """CIoU of predicted boxes (xyxy px, [..., 4]), α held constant: the bound of 1 − IoU plus 30/(w² + h²); 1/px².

    With D² = w² + h² ≤ c², k = 4/π² and |Δ| ≤ π/2 the difference of angles, term by term. ρ²/c²: ρ² has eigenvalues up
    to 1 and a gradient of √2 ρ, c² a positive semi-definite Hessian and a gradient of at most √8 c; with ρ ≤ c that
    makes (1 + 2·√2·√8 + 2·8)/c² = 25/c². αv, α ≤ 1: |∇Δ|² = 2/D², its Hessian has eigenvalues ±2/D² and 0, hence
    4k(1 + |Δ|)/D² ≤ 4.2/D².
    """
    return iou_loss(boxes) + 30 / jnp.sum((boxes[..., 2:] - boxes[..., :2]) ** 2, axis=-1)


def nwd(boxes: Array, targets: Array, constant: float) -> Array:
    """1 − NWD of (cx, cy, w, h) px, [..., 4]: 1/(c·W₂), no size of the box in it; 1/px²."""
    center, size = boxes[..., :2] - targets[..., :2], boxes[..., 2:] - targets[..., 2:]
    return 1 / (constant * jnp.sqrt(jnp.sum(center**2, axis=-1) + jnp.sum(size**2, axis=-1) / 4))


def dotd(centers: Array, targets: Array, constant: float) -> Array:
    """1 − DotD of centres (cx, cy) px, [..., 2]: 1/(c·D), no size of the box in it; 1/px²."""
    return 1 / (constant * jnp.linalg.norm(centers - targets, axis=-1))


def cross_entropy() -> Array:
    """Any cross entropy by its logits: ½, whatever the label and the box.

    uᵀ(diag(p) − ppᵀ)u is the variance of u under p, at most a quarter of its squared range (Popoviciu), and the entries
    of a unit vector span at most √2.
    """
    return jnp.array(0.5)


def entropy(logits: Array) -> Array:
    """Entropy of a prediction by its logits, [..., bins]: (√max v + ‖p‖√Σv)², v = p·max(−1 − log p − H, 0).

    With m = p·u, uᵀHu = Σ p(−1 − log p − H)(u − m)² ≤ ‖√v∘u − m√v‖² for every unit vector u, and |m| ≤ ‖p‖.
    """
    p = jax.nn.softmax(logits)
    parts = jax.scipy.special.entr(p)
    pulls = jnp.maximum(parts - p * (1 + jnp.sum(parts, axis=-1, keepdims=True)), 0)
    root = jnp.sqrt(jnp.max(pulls, axis=-1)) + jnp.linalg.norm(p, axis=-1) * jnp.sqrt(jnp.sum(pulls, axis=-1))
    return jnp.maximum(root**2, 1e-12)  # 0 up to rounding where the prediction is nearly uniform
