"""Members for optax chains that shorten steps which would hurt, and a transform of losses that does so for every box.

- `ugs_stabilize`: both limits, with what they did readable from one state;
- `limit_by_curvature`, `limit_by_uncertainty`: each alone;
- `limit_by_value`: for losses with kinks, which have no curvature to go by, such as those on IoU;
- `stabilize_loss`, `limit_loss_by_value`: limit the gradient of every box by its own curvature, or its own value.

Needs JAX and Optax only.
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
