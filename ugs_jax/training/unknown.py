"""Names of metrics that a step may leave unknown."""

from ugs_jax.training.feature_gradients import FEATURE_GRADIENTS
from ugs_jax.training.sharpness import SHARPNESS

NOW_AND_THEN = (*SHARPNESS, *FEATURE_GRADIENTS)
"""Metrics that are measured at one in `log_every` steps; they are NaN at the others."""
MAY_BE_UNKNOWN = frozenset((*NOW_AND_THEN, "uncertainty", "step_curvature"))
"""Metrics that are NaN if a batch does not determine them, for example without positives. Means leave out NaN."""
