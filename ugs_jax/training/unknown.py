"""Metrics that a step may leave unknown."""

from ugs_jax.training.feature_gradients import FEATURE_GRADIENTS
from ugs_jax.training.sharpness import SHARPNESS

NOW_AND_THEN = (*SHARPNESS, *FEATURE_GRADIENTS)
"""Names of metrics that are measured at one step in `log_every`, and NaN at the others."""
MAY_BE_UNKNOWN = frozenset((*NOW_AND_THEN, "uncertainty", "step_curvature"))
"""Names of metrics that are NaN where a batch says nothing, for example without positives; means leave NaN out."""
