"""Memory, time and cost of training on accelerators, computed without having them."""

from ugs_jax.planning.plan import Plan, plan_training

__all__ = [
    "Plan",
    "plan_training",
]
