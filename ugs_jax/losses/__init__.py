"""Losses: pure functions of arrays with one unreduced value per box (or element); `reduce` averages them.

`curvature.hessian` knows the Hessians of those with one value per box in closed form (`hessians`).
"""

import ugs_jax.losses.hessians  # noqa: F401  it enters the closed forms
from ugs_jax.losses.classification import sigmoid_cross_entropy, sigmoid_focal
from ugs_jax.losses.distance import dotd, nwd
from ugs_jax.losses.distribution import distribution_focal
from ugs_jax.losses.interval import entropy, entropy_gap, interval_cross_entropy, normalised_entropy
from ugs_jax.losses.iou import ciou, diou, giou, iou_loss, log_iou
from ugs_jax.losses.norm import l1, l2, smooth_l1
from ugs_jax.losses.reduce import masked_count, masked_mean, masked_sum, masked_variance, weighted_mean

__all__ = [
    "ciou",
    "diou",
    "distribution_focal",
    "dotd",
    "entropy",
    "entropy_gap",
    "giou",
    "interval_cross_entropy",
    "iou_loss",
    "l1",
    "l2",
    "log_iou",
    "masked_count",
    "masked_mean",
    "masked_sum",
    "masked_variance",
    "normalised_entropy",
    "nwd",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "smooth_l1",
    "weighted_mean",
]
