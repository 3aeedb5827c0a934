"""Equations that the supplement leaves out: whole Hessians of box losses, and bounds of their largest eigenvalue.

Boxes are drawn with sides from 0.5 to 2000 px and aspect ratios from ¼ to 4. Predictions are shifted and resized by up
to a share of their sides. A step along the gradient that is shorter than 2/bound does not overshoot.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ugs_jax.curvature import bounds, closed_forms
from ugs_jax.curvature.equations import Domain, Equation

CONSTANT = 12.8
"""Constant of NWD and DotD here, px: about the mean size of objects in AI-TOD."""

BINS = 11


def _boxes(least_iou: float) -> Domain:
    """Return a domain of predictions and targets, xyxy, with an IoU above `least_iou`."""

    def draw(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        kept_boxes, kept_targets, kept = [], [], 0
        while kept < count:
            targets = _sides_and_centers(rng, count)
            boxes = targets.copy()
            boxes[:, :2] += rng.uniform(-0.4, 0.4, (count, 2)) * targets[:, 2:]
            boxes[:, 2:] *= np.exp(rng.uniform(-0.5, 0.5, (count, 2)))
            pair = [
                np.concatenate([c[:, :2] - c[:, 2:] / 2, c[:, :2] + c[:, 2:] / 2], axis=1) for c in (boxes, targets)
            ]
            good = _iou(*pair) > least_iou
            kept_boxes.append(pair[0][good])
            kept_targets.append(pair[1][good])
            kept += int(good.sum())
        return {"boxes": np.concatenate(kept_boxes)[:count], "targets": np.concatenate(kept_targets)[:count]}

    return draw


def _sides_and_centers(rng: np.random.Generator, count: int) -> np.ndarray:
    size, aspect = (
        np.exp(rng.uniform(np.log(0.5), np.log(2000.0), count)),
        np.exp(rng.uniform(-np.log(4), np.log(4), count) / 2),
    )
    sides = np.stack([size * aspect, size / aspect], axis=1)
    return np.concatenate([rng.uniform(-1, 1, (count, 2)) * sides, sides], axis=1)


def _centered(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    targets = _sides_and_centers(rng, count)
    shift = rng.uniform(-1, 1, (count, 2)) * targets[:, 2:]
    boxes = np.concatenate([targets[:, :2] + shift, targets[:, 2:] * np.exp(rng.uniform(-1, 1, (count, 2)))], axis=1)
    return {"boxes": boxes, "targets": targets}


def _with_anchors(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    drawn = _centered(rng, count)
    return {**drawn, "anchors": drawn["targets"][:, 2:] * np.exp(rng.uniform(-1, 1, (count, 2)))}


def _close(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Draw boxes (cx, cy, w, h) at most a few constants apart. Farther apart, e^(−r/c) is too small to measure."""
    targets = _sides_and_centers(rng, count)
    scale = CONSTANT * np.exp(rng.uniform(np.log(1e-3), np.log(10.0), (count, 1)))
    return {"boxes": targets + scale * rng.uniform(-1, 1, (count, 4)), "targets": targets}


def _close_centers(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    drawn = _close(rng, count)
    return {"boxes": drawn["boxes"][:, :2], "targets": drawn["targets"][:, :2]}


def _logits(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    return {"logits": rng.normal(size=(count, BINS)) * np.exp(rng.uniform(np.log(0.1), np.log(5.0), (count, 1)))}


def _iou(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    sides = np.minimum(boxes[:, 2:], targets[:, 2:]) - np.maximum(boxes[:, :2], targets[:, :2])
    inter = np.prod(np.maximum(sides, 0), axis=1)
    return inter / (
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(targets[:, 2:] - targets[:, :2], axis=1) - inter
    )


# Losses written down directly, for autodiff.


def _areas(boxes: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Return the areas of the overlap, of the union and of the smallest box around both, px²."""
    inner = jnp.minimum(boxes[2:], targets[2:]) - jnp.maximum(boxes[:2], targets[:2])
    outer = jnp.maximum(boxes[2:], targets[2:]) - jnp.minimum(boxes[:2], targets[:2])
    inter = jnp.prod(jnp.maximum(inner, 0))
    return inter, jnp.prod(boxes[2:] - boxes[:2]) + jnp.prod(targets[2:] - targets[:2]) - inter, jnp.prod(outer)


def _iou_loss(boxes: Array, targets: Array) -> Array:
    inter, union, _ = _areas(boxes, targets)
    return 1 - inter / union


def _log_iou(boxes: Array, targets: Array) -> Array:
    inter, union, _ = _areas(boxes, targets)
    return -jnp.log(inter / union)


def _giou(boxes: Array, targets: Array) -> Array:
    inter, union, hull = _areas(boxes, targets)
    return 1 - (inter / union - (hull - union) / hull)


def _ciou(boxes: Array, targets: Array) -> Array:
    inter, union, _ = _areas(boxes, targets)
    shift = (boxes[:2] + boxes[2:] - targets[:2] - targets[2:]) / 2
    outer = jnp.maximum(boxes[2:], targets[2:]) - jnp.minimum(boxes[:2], targets[:2])
    sides, wanted = boxes[2:] - boxes[:2], targets[2:] - targets[:2]
    v = 4 / jnp.pi**2 * (jnp.arctan(sides[0] / sides[1]) - jnp.arctan(wanted[0] / wanted[1])) ** 2
    alpha = jax.lax.stop_gradient(v / (1 - inter / union + v + 1e-7))
    return 1 - inter / union + jnp.sum(shift**2) / jnp.sum(outer**2) + alpha * v


def _nwd(boxes: Array, targets: Array) -> Array:
    center, size = boxes[:2] - targets[:2], (boxes[2:] - targets[2:]) / 2
    return 1 - jnp.exp(-jnp.sqrt(jnp.sum(center**2) + jnp.sum(size**2)) / CONSTANT)


def _dotd(boxes: Array, targets: Array) -> Array:
    return 1 - jnp.exp(-jnp.linalg.norm(boxes - targets) / CONSTANT)


def _l2(boxes: Array, targets: Array, anchors: Array) -> Array:
    center, size = (boxes[:2] - targets[:2]) / anchors, jnp.log(targets[2:] / boxes[2:])
    return jnp.sum(center**2) + jnp.sum(size**2)


def _cross_entropy(logits: Array) -> Array:
    return jnp.log(jnp.sum(jnp.exp(logits))) - (0.3 * logits[0] + 0.7 * logits[1])


def _entropy(logits: Array) -> Array:
    p = jnp.exp(logits) / jnp.sum(jnp.exp(logits))
    return -jnp.sum(p * jnp.log(p))


BEYOND: tuple[Equation, ...] = (
    Equation(
        number="A1",
        title="L2 in anchor encoding, 4×4",
        loss=_l2,
        variable="boxes",
        exact=closed_forms.l2,
        bound=bounds.l2,
        domain=_with_anchors,
        unit="1/px²",
        remark="smooth; at most 2/a² for the centre, 2(1 + max(0, log w/ŵ))/ŵ² for a side: 1/size²",
        latex=r"\operatorname{diag}\left(\frac{2}{w_a^2}, \frac{2}{h_a^2},"
        r" \frac{2(1 + \log\frac{w}{\hat w})}{\hat w^2}, \frac{2(1 + \log\frac{h}{\hat h})}{\hat h^2}\right)",
    ),
    Equation(
        number="A2",
        title="−ln IoU, 4×4, IoU > ½",
        loss=_log_iou,
        variable="boxes",
        exact=closed_forms.log_iou,
        bound=bounds.log_iou,
        domain=_boxes(0.5),
        unit="1/px²",
        remark="at most 22/s², s the short side; kinks where edges meet: for shifted squares the slope jumps by 4/w at "
        "d = 0",
        latex=r"\frac{H_U}{U} - \frac{g_U g_U^\top}{U^2} - \frac{H_I}{I} + \frac{g_I g_I^\top}{I^2}",
    ),
    Equation(
        number="A3",
        title="1 − IoU, 4×4",
        loss=_iou_loss,
        variable="boxes",
        exact=closed_forms.iou_loss,
        bound=bounds.iou_loss,
        domain=_boxes(0.0),
        unit="1/px²",
        remark="at most (4 + 8(r + 1/r))/wh, r = w/h; kinks where edges meet: for shifted squares the slope jumps by "
        "4/w at d = 0",
        latex=r"-\frac{1}{U}\left(H_I - \frac{I}{U} H_U - g_q g_U^\top - g_U g_q^\top\right)",
    ),
    Equation(
        number="A4",
        title="1 − GIoU, 4×4",
        loss=_giou,
        variable="boxes",
        exact=closed_forms.giou,
        bound=bounds.giou,
        domain=_boxes(0.0),
        unit="1/px²",
        remark="at most the sum of 1 − IoU's bound and the same bound for the hull; kinks at the same places as 1 − "
        "IoU",
        latex=r"H_{1 - I/U} - H_{U/C}",
    ),
    Equation(
        number="A5",
        title="1 − NWD, 4×4",
        loss=_nwd,
        variable="boxes",
        exact=lambda boxes, targets: closed_forms.nwd(boxes, targets, CONSTANT),
        bound=lambda boxes, targets: bounds.nwd(boxes, targets, CONSTANT),
        domain=_close,
        unit="1/px²",
        remark="at most 1/(c·W₂), which does not depend on the size of the box; at equal boxes a cone, whose slope "
        "jumps by 2/c",
        latex=r"\frac{e^{-r/c}}{cr}\left(D - \left(\frac{1}{r^2} + \frac{1}{cr}\right) D\delta\,(D\delta)^\top\right)",
    ),
    Equation(
        number="A6",
        title="1 − DotD, 2×2",
        loss=_dotd,
        variable="boxes",
        exact=lambda boxes, targets: closed_forms.dotd(boxes, targets, CONSTANT),
        bound=lambda boxes, targets: bounds.dotd(boxes, targets, CONSTANT),
        domain=_close_centers,
        unit="1/px²",
        remark="at most 1/(c·D), which does not depend on the size of the box; at equal centres a cone, whose slope "
        "jumps by 2/c",
        latex=r"\frac{e^{-r/c}}{cr}\left(1 - \left(\frac{1}{r^2} + \frac{1}{cr}\right) \delta\delta^\top\right)",
    ),
    Equation(
        number="A7",
        title="cross entropy by logits",
        loss=_cross_entropy,
        variable="logits",
        exact=closed_forms.cross_entropy,
        bound=bounds.cross_entropy,
        domain=_logits,
        remark="at most ½ for any box and any label, which is the basis of UGS; smooth",
        latex=r"\operatorname{diag}(p) - p p^\top",
    ),
    Equation(
        number="A8",
        title="entropy (UM) by logits",
        loss=_entropy,
        variable="logits",
        exact=closed_forms.entropy,
        bound=bounds.entropy,
        domain=_logits,
        remark="at most (√max v + ‖p‖√Σv)², v = p·max(−1 − log p − H, 0): below 0.57 for 11 labels, for any box",
        latex=r"p a^\top_p + a_p p^\top + p p^\top - \operatorname{diag}(a_p + p),\; a_p = p \circ (\log p + H)",
    ),
    Equation(
        number="A9",
        title="CIoU with α constant, 4×4",
        loss=_ciou,
        variable="boxes",
        exact=closed_forms.ciou,
        bound=bounds.ciou,
        domain=_boxes(0.0),
        unit="1/px²",
        remark="at most 1 − IoU's bound + 30/(w² + h²); α is a constant in both derivatives, so this is the curvature "
        "in training, not that of the value; the kinks of 1 − IoU",
        latex=r"H_{1 - I/U} + H_{\rho^2/c^2} + \alpha H_v,\; \alpha = \frac{v}{1 - I/U + v}",
    ),
)
"""Whole Hessians of the localization losses, with bounds of their largest eigenvalue."""
