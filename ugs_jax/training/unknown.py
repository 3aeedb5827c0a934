"""Metrics that a step may leave unknown."""

from ugs_jax.training.sharpness import SHARPNESS

MAY_BE_UNKNOWN = frozenset((*SHARPNESS, "uncertainty", "step_curvature"))
"""Names of metrics that are NaN where a batch says nothing, for example without positives; means leave NaN out."""
