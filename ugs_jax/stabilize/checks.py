"""Checks of settings and of extra arguments: on Python numbers and shapes only, never on traced values."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def check_number(name: str, value: Any, low: float, high: float = math.inf, *, closed: bool = False) -> None:
    """Raise ValueError for a Python number outside the interval (low, high). Arrays and tracers are not checked.

    Args:
      name: Name of the setting, for the message.
      value: Number to check.
      low: Lower end.
      high: Upper end, excluded.
      closed: If True, the interval includes its lower end.
    """
    if not isinstance(value, int | float):
        return
    if not ((low <= value if closed else low < value) and value < high):
        interval = f"{'[' if closed else '('}{low:g}, {high:g})"
        raise ValueError(f"{name}: expected a number in {interval}, got {value}")


def scalar(name: str, value: Any) -> Array:
    """Return an extra argument as an array without axes.

    Raises:
      ValueError: The argument has axes. A vector would change the shape of the parameters.
    """
    if jnp.shape(value):
        raise ValueError(f"{name}: expected a scalar, got shape {jnp.shape(value)}; pass its mean, jnp.mean({name})")
    return jnp.asarray(value)


def check_every(every: Any) -> None:
    """Raise ValueError for an interval below one update. Arrays and tracers are not checked."""
    if not isinstance(every, jax.Array) and every < 1:
        raise ValueError(f"every: expected at least 1 update between Hessian-vector products, got {every}")
