"""Precision and singular points: the few guarded operations that boxes, labels and losses are written with.

1. Everything is computed in at least float32 (`widen`) and handed back in the dtype that came in (`narrow`), saturated
   at its largest number instead of overflowing to infinity. Gradients are cast back by JAX, without saturation: for
   float16 inputs they are finite as long as their true value is below 65504, so keep parameters in float32.
2. `ratio` and `root` are 0, with zero gradient, at their singular points. Selecting the result alone is not enough: the
   branch not taken would still contribute 0 · inf = NaN to the gradient, so the operand is replaced as well.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Scalar = float | int

COORDINATE_LIMIT = 1e9
"""Box coordinates are clipped to ± this many px, so that areas and their squares fit float32."""

SIDE_FLOOR = 1e-3
"""Smallest box side, in px, whose logarithm or aspect ratio is taken; shorter or reversed sides count as this long."""

AREA_FLOOR = 1e-12
"""Smallest area or squared length, in px², that anything is divided by: its inverse cube still fits float32."""

LENGTH_FLOOR = 1e-8
"""Smallest distance, in px, with a direction."""


def widen(*arrays: ArrayLike) -> tuple[Array, ...]:
    """Cast to a common dtype to compute in: float64 if one of them is float64, else float32."""
    given = [jnp.asarray(array) for array in arrays]
    dtype = jnp.float64 if any(array.dtype == jnp.float64 for array in given) else jnp.float32
    return tuple(array.astype(dtype) for array in given)


def narrow(value: Array, *like: ArrayLike) -> Array:
    """Cast `value` to the dtype of `like` if these share one, saturating; leave it as it is if they differ."""
    dtypes = {jnp.asarray(array).dtype for array in like}
    if len(dtypes) != 1:
        return value
    dtype = dtypes.pop()
    if not jnp.issubdtype(dtype, jnp.floating) or dtype == value.dtype:
        return value
    limit = float(jnp.finfo(dtype).max)
    return jnp.clip(value, -limit, limit).astype(dtype)


def magnitude(value: Array) -> Array:
    """Absolute value whose gradient at 0 is 0; that of `jnp.abs` is 1 there."""
    return value * jnp.sign(value)


def ratio(numerator: Array, denominator: Array, *, floor: float = AREA_FLOOR) -> Array:
    """Quotient; 0 with zero gradient where the denominator is not above `floor`."""
    regular = denominator > floor
    return jnp.where(regular, numerator / jnp.where(regular, denominator, 1.0), 0.0)


def root(square: Array, *, floor: float = LENGTH_FLOOR) -> Array:
    """Square root; 0 with zero gradient where it would not exceed `floor`."""
    regular = square > floor**2
    return jnp.where(regular, jnp.sqrt(jnp.where(regular, square, 1.0)), 0.0)
