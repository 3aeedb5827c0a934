"""Optax transformations that shorten steps that would overshoot, and transforms of losses that do so for every box.

- `ugs_stabilize`: the limits by curvature and by uncertainty, with one state that records what they did;
- `limit_by_curvature`, `limit_by_uncertainty`: each limit alone;
- `limit_by_value`: a limit for losses with kinks, such as those on IoU, whose curvature does not show the kink;
- `stabilize_loss`, `limit_loss_by_value`: the gradient of every box limited by its own curvature, or its own value.

This package needs JAX and Optax only.
"""

from ugs_jax.stabilize.both import StabilizeState, ugs_stabilize
from ugs_jax.stabilize.curvature_limit import CurvatureLimitState, limit_by_curvature
from ugs_jax.stabilize.per_box import stabilize_loss
from ugs_jax.stabilize.uncertainty_limit import UncertaintyLimitState, limit_by_uncertainty
from ugs_jax.stabilize.value_limit import ValueLimitState, limit_by_value, limit_loss_by_value

__all__ = [
    "CurvatureLimitState",
    "StabilizeState",
    "UncertaintyLimitState",
    "ValueLimitState",
    "limit_by_curvature",
    "limit_by_uncertainty",
    "limit_by_value",
    "limit_loss_by_value",
    "stabilize_loss",
    "ugs_stabilize",
]
