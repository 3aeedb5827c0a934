"""Upper bounds of the largest eigenvalue of the Hessians of box losses, by the size of the box.

A step along the gradient shorter than 2/bound does not overshoot. Hessians and coordinates are those of `closed_forms`;
`ugs verify` checks every bound (A1-A9).
"""

import jax
import jax.numpy as jnp
from jax import Array


def l2(boxes: Array, targets: Array, anchors: Array) -> Array:
    """Return the bound of L2 in anchor encoding, which grows with 1/size².

    It is 2/a² for the centre and 2(1 + max(0, log w/ŵ))/ŵ² for a side.

    Args:
      boxes: Predicted boxes (cx, cy, w, h) px, [..., 4].
      targets: Target boxes in the same format.
      anchors: Sides of the anchors, px, [..., 2].

    Returns:
      Bounds [...], 1/px².
    """
    size, wanted = boxes[..., 2:], targets[..., 2:]
    of_size = 2 * (1 + jnp.maximum(jnp.log(wanted / size), 0)) / size**2
    return jnp.maximum(2 / jnp.min(anchors, axis=-1) ** 2, jnp.max(of_size, axis=-1))


def log_iou(boxes: Array) -> Array:
    """Return the bound of −ln IoU for predicted boxes (xyxy px, [..., 4]) with an IoU above ½, 1/px².

    It is 22/s², with s the shorter side.
    """
    return 22 / jnp.min(boxes[..., 2:] - boxes[..., :2], axis=-1) ** 2


def iou_loss(boxes: Array) -> Array:
    """Return the bound of 1 − IoU for predicted boxes (xyxy px, [..., 4]): (4 + 8(r + 1/r))/wh, r = w/h; 1/px²."""
    sides = boxes[..., 2:] - boxes[..., :2]
    width, height = sides[..., 0], sides[..., 1]
    return (4 + 8 * (width / height + height / width)) / (width * height)


def giou(boxes: Array, targets: Array) -> Array:
    """Return the bound of 1 − GIoU for boxes xyxy px, [..., 4]; 1/px².

    It is the sum of the bound of 1 − IoU and the same bound for the smallest box around both.
    """
    low, high = jnp.minimum(boxes[..., :2], targets[..., :2]), jnp.maximum(boxes[..., 2:], targets[..., 2:])
    return iou_loss(boxes) + iou_loss(jnp.concatenate([low, high], axis=-1))


def ciou(boxes: Array) -> Array:
    """Return the bound of CIoU, with α held constant, for predicted boxes (xyxy px, [..., 4]); 1/px².

    It is the bound of 1 − IoU plus 30/(w² + h²).

    With D² = w² + h² ≤ c², k = 4/π² and |Δ| ≤ π/2 the difference of angles, term by term. ρ²/c²: ρ² has eigenvalues up
    to 1 and a gradient of √2 ρ, c² a positive semi-definite Hessian and a gradient of at most √8 c; with ρ ≤ c that
    makes (1 + 2·√2·√8 + 2·8)/c² = 25/c². αv, α ≤ 1: |∇Δ|² = 2/D², its Hessian has eigenvalues ±2/D² and 0, hence
    4k(1 + |Δ|)/D² ≤ 4.2/D².
    """
    return iou_loss(boxes) + 30 / jnp.sum((boxes[..., 2:] - boxes[..., :2]) ** 2, axis=-1)


def nwd(boxes: Array, targets: Array, constant: float) -> Array:
    """Return the bound of 1 − NWD for boxes (cx, cy, w, h) px, [..., 4]; 1/px².

    It is 1/(c·W₂), which does not depend on the size of the box.
    """
    center, size = boxes[..., :2] - targets[..., :2], boxes[..., 2:] - targets[..., 2:]
    return 1 / (constant * jnp.sqrt(jnp.sum(center**2, axis=-1) + jnp.sum(size**2, axis=-1) / 4))


def dotd(centers: Array, targets: Array, constant: float) -> Array:
    """Return the bound of 1 − DotD for centres (cx, cy) px, [..., 2]; 1/px².

    It is 1/(c·D), which does not depend on the size of the box.
    """
    return 1 / (constant * jnp.linalg.norm(centers - targets, axis=-1))


def cross_entropy() -> Array:
    """Return the bound of any cross entropy with respect to its logits: ½, for any label and any box.

    uᵀ(diag(p) − ppᵀ)u is the variance of u under p, at most a quarter of its squared range (Popoviciu), and the entries
    of a unit vector span at most √2.
    """
    return jnp.array(0.5)


def entropy(logits: Array) -> Array:
    """Return the bound of the entropy of a prediction with respect to its logits, [..., bins].

    It is (√max v + ‖p‖√Σv)², v = p·max(−1 − log p − H, 0).

    With m = p·u, uᵀHu = Σ p(−1 − log p − H)(u − m)² ≤ ‖√v∘u − m√v‖² for every unit vector u, and |m| ≤ ‖p‖.
    """
    p = jax.nn.softmax(logits)
    parts = jax.scipy.special.entr(p)
    pulls = jnp.maximum(parts - p * (1 + jnp.sum(parts, axis=-1, keepdims=True)), 0)
    root = jnp.sqrt(jnp.max(pulls, axis=-1)) + jnp.linalg.norm(p, axis=-1) * jnp.sqrt(jnp.sum(pulls, axis=-1))
    return jnp.maximum(root**2, 1e-12)  # 0 up to rounding where the prediction is nearly uniform
