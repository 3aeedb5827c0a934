"""Members for optax chains that shorten steps which would hurt, and a transform of losses that does so for every box.

- `ugs_stabilize`: both limits, with what they did readable from one state;
- `limit_by_curvature`, `limit_by_uncertainty`: each alone;
- `stabilize_loss`: limits the gradient of every box by that box's own curvature.

Needs JAX and Optax only.
"""

from ugs_jax.stabilize.both import StabilizeState, ugs_stabilize
from ugs_jax.stabilize.curvature_limit import CurvatureLimitState, limit_by_curvature
from ugs_jax.stabilize.per_box import stabilize_loss
from ugs_jax.stabilize.uncertainty_limit import UncertaintyLimitState, limit_by_uncertainty

__all__ = [
    "CurvatureLimitState",
    "StabilizeState",
    "UncertaintyLimitState",
    "limit_by_curvature",
    "limit_by_uncertainty",
    "stabilize_loss",
    "ugs_stabilize",
]
