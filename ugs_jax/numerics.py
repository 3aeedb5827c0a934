"""Guarded operations for precision and singular points, used by boxes, labels and losses.

1. Everything is computed in at least float32 (`widen`) and returned in the dtype of the inputs (`narrow`), saturated at
   the largest number of that dtype instead of overflowing to infinity. JAX casts gradients back without saturation: for
   float16 inputs they are finite as long as their true value is below 65504, so keep parameters in float32.
2. `ratio` and `root` are 0, with zero gradient, at their singular points. It is not enough to select the result: the
   unused branch would still contribute 0 · inf = NaN to the gradient. Therefore the operand is replaced as well.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

Scalar = float | int

COORDINATE_LIMIT = 1e9
"""Largest absolute box coordinate, px. Coordinates are clipped to it, so that areas and their squares fit float32."""

LOGIT_LIMIT = 1e30
"""Largest absolute logit. Logits are clipped to it, so that no product of 0 and infinity is computed."""

SIDE_FLOOR = 1e-3
"""Smallest box side, px, for logarithms and aspect ratios. Shorter and reversed sides are replaced by it."""

AREA_FLOOR = 1e-12
"""Smallest area or squared length, px², that is used as a divisor. Its inverse cube still fits float32."""

LENGTH_FLOOR = 1e-8
"""Smallest distance, px, that has a direction."""


def normal_quadrature(count: int) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Return nodes and weights of the mean over a standard normal variable (Gauss–Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def widen(*arrays: ArrayLike) -> tuple[Array, ...]:
    """Cast arrays to a common dtype for the computation: float64 if one of them is float64, else float32."""
    given = [jnp.asarray(array) for array in arrays]
    dtype = jnp.float64 if any(array.dtype == jnp.float64 for array in given) else jnp.float32
    return tuple(array.astype(dtype) for array in given)


def narrow(value: Array, *like: ArrayLike) -> Array:
    """Cast `value`, with saturation, to the dtype that all `like` share; if they differ, return it unchanged."""
    dtypes = {jnp.asarray(array).dtype for array in like}
    if len(dtypes) != 1:
        return value
    dtype = dtypes.pop()
    if not jnp.issubdtype(dtype, jnp.floating) or dtype == value.dtype:
        return value
    limit = float(jnp.finfo(dtype).max)
    return jnp.clip(value, -limit, limit).astype(dtype)


def magnitude(value: Array) -> Array:
    """Return the absolute value, with gradient 0 at 0; the gradient of `jnp.abs` is 1 there."""
    return value * jnp.sign(value)


def ratio(numerator: Array, denominator: Array, *, floor: float = AREA_FLOOR) -> Array:
    """Return the quotient; it is 0 with zero gradient where the denominator is not above `floor`."""
    regular = denominator > floor
    return jnp.where(regular, numerator / jnp.where(regular, denominator, 1.0), 0.0)


def root(square: Array, *, floor: float = LENGTH_FLOOR) -> Array:
    """Return the square root; it is 0 with zero gradient where it would not exceed `floor`."""
    regular = square > floor**2
    return jnp.where(regular, jnp.sqrt(jnp.where(regular, square, 1.0)), 0.0)
