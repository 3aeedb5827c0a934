"""Closed forms of the Hessians of the losses with one value for each box, which `curvature.hessian` uses.

The formulas are those of `curvature.closed_forms`. This module adds what the losses do around them: boxes in xyxy,
clipped coordinates, computation in at least float32, and default settings.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from ugs_jax.curvature import closed_forms
from ugs_jax.curvature.registry import HESSIANS
from ugs_jax.labels import two_hot
from ugs_jax.losses import distance, distribution, interval, iou, norm
from ugs_jax.numerics import COORDINATE_LIMIT, Scalar, narrow, widen


def _of_boxes(form: Callable[..., Array]) -> Callable[..., Array]:
    """Return the Hessian by xyxy boxes; rows and columns of clipped coordinates are 0."""

    def hessian(boxes: Array, targets: Array, **settings: Any) -> Array:
        a, b = widen(boxes, targets)
        fixed = jnp.abs(a) >= COORDINATE_LIMIT
        a, b = (jnp.clip(wide, -COORDINATE_LIMIT, COORDINATE_LIMIT) for wide in (a, b))
        return narrow(jnp.where(fixed[..., :, None] | fixed[..., None, :], 0, form(a, b, **settings)), boxes)

    return hessian


def _log_iou(boxes: Array, targets: Array, *, floor: Scalar = 1e-6) -> Array:
    return closed_forms.log_iou(boxes, targets, floor)


def _nwd(boxes: Array, targets: Array, *, constant: Scalar = 12.8) -> Array:
    # W² = |Δc|² + (Δw² + Δh²)/4 is half the sum of the squared differences of the corners.
    return closed_forms.radial(boxes - targets, (0.5, 0.5, 0.5, 0.5), constant)


def _dotd(boxes: Array, targets: Array, *, constant: Scalar = 12.7) -> Array:
    shift = (boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:]) / 2
    return jnp.tile(closed_forms.radial(shift, (1.0, 1.0), constant) / 4, (2, 2))


def _diagonal(offsets: Array, values: Array | float) -> Array:
    return narrow(jnp.asarray(values)[..., None] * jnp.eye(offsets.shape[-1], dtype=widen(offsets)[0].dtype), offsets)


def _l1(offsets: Array, *_: Array) -> Array:
    return _diagonal(offsets, 0.0)


def _l2(offsets: Array, *_: Array) -> Array:
    return _diagonal(offsets, 2.0)


def _smooth_l1(offsets: Array, targets: Array, *, beta: Scalar = 1.0) -> Array:
    wide, goal = widen(offsets, targets)
    return _diagonal(offsets, jnp.where(jnp.abs(wide - goal) < beta, 1 / beta, 0.0))


def _cross_entropy(logits: Array, *_: Any, **__: Any) -> Array:
    """Return the Hessian of cross entropy, which is the same for every label."""
    return narrow(closed_forms.cross_entropy(*widen(logits)), logits)


def _entropy(logits: Array) -> Array:
    return narrow(closed_forms.entropy(*widen(logits)), logits)


def _normalised_entropy(logits: Array) -> Array:
    return narrow(closed_forms.entropy(*widen(logits)) / jnp.log(logits.shape[-1]), logits)


def _entropy_gap(logits: Array, offsets: Array, grid: Any) -> Array:
    scores, targets = widen(logits, offsets)
    share = jnp.max(two_hot(targets, grid), axis=-1)  # of one of the two grid points with weight
    rest = jnp.where(share < 1, 1 - share, 1.0)
    label_entropy = -share * jnp.log(share) - (1 - share) * jnp.log(rest)
    sign = jnp.sign(interval.entropy(scores) - label_entropy)[..., None, None]
    return narrow(sign * closed_forms.entropy(scores), logits)


HESSIANS.update(
    {
        distance.dotd: _of_boxes(_dotd),
        distance.nwd: _of_boxes(_nwd),
        distribution.distribution_focal: _cross_entropy,
        interval.entropy: _entropy,
        interval.entropy_gap: _entropy_gap,
        interval.interval_cross_entropy: _cross_entropy,
        interval.normalised_entropy: _normalised_entropy,
        iou.ciou: _of_boxes(closed_forms.ciou),
        iou.diou: _of_boxes(closed_forms.diou),
        iou.giou: _of_boxes(closed_forms.giou),
        iou.iou_loss: _of_boxes(closed_forms.iou_loss),
        iou.log_iou: _of_boxes(_log_iou),
        norm.l1: _l1,
        norm.l2: _l2,
        norm.smooth_l1: _smooth_l1,
    }
)
