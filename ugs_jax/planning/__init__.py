"""Memory, time and cost of training on devices that are not here."""

from ugs_jax.planning.plan import Plan, plan_training

__all__ = [
    "Plan",
    "plan_training",
]
