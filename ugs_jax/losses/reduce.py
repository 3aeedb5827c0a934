"""Sums and means over masked elements. Losses are averaged only here.

Under `jax.jit` with sharded inputs, the sums run over the global arrays, so a mean over a mesh is the global sum over
the global count. Results are at least float32 for any input: a sum of a thousand float16 losses does not fit float16.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ugs_jax.numerics import widen

Axis = int | tuple[int, ...] | None


def masked_sum(
    values: Float[Array, "*batch"], mask: Bool[Array, "*#batch"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Sum of the values where `mask` is True; other values, NaN included, affect neither the sum nor its gradient.

    Args:
      values: Unreduced values.
      mask: Elements to include. It broadcasts against `values`.
      axis: Axes to sum over; all by default.
    """
    (wide,) = widen(values)
    return jnp.sum(jnp.where(mask, wide, 0.0), axis=axis)


def masked_count(
    values: Float[Array, "*batch"], mask: Bool[Array, "*#batch"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Number of values where `mask` is True.

    Args:
      values: Unreduced values. Only their shape and type are used.
      mask: Elements to count. It broadcasts against `values`.
      axis: Axes to count over; all by default.
    """
    (wide,) = widen(values)
    return jnp.sum(jnp.broadcast_to(mask, wide.shape), axis=axis, dtype=wide.dtype)


def masked_mean(
    values: Float[Array, "*batch"], mask: Bool[Array, "*#batch"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Mean of the values where `mask` is True; 0, with zero gradient, if no element is True.

    Args:
      values: Unreduced values.
      mask: Elements to include. It broadcasts against `values`.
      axis: Axes to average over; all by default.

    Example:
      >>> import jax.numpy as jnp
      >>> print(masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])))
      2.0
    """
    return masked_sum(values, mask, axis=axis) / jnp.maximum(masked_count(values, mask, axis=axis), 1.0)


def weighted_mean(values: Float[Array, "*batch"], weights: Float[Array, "*#batch"]) -> Float[Array, ""]:
    """Weighted sum of the values over the sum of the weights, which counts as at least 1.

    Values with weight 0, NaN included, affect neither the mean nor its gradient. With weights of 0 and 1 this is
    `masked_mean`. Detectors with soft targets divide by at least 1, too.

    Args:
      values: Unreduced values.
      weights: Weights in [0, 1]. They broadcast against `values`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(weighted_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([0.5, 1.5, 0.0])))
      2.5
    """
    values, wide = widen(values, weights)
    return jnp.sum(jnp.where(wide > 0, values, 0.0) * wide) / jnp.maximum(
        jnp.sum(jnp.broadcast_to(wide, values.shape)), 1.0
    )


def masked_variance(
    values: Float[Array, "*batch"], mask: Bool[Array, "*#batch"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Population variance of the values where `mask` is True; 0 if at most one element is True.

    The mean is subtracted before squaring, so values far from 0 lose no digits.

    Args:
      values: Unreduced values.
      mask: Elements to include. It broadcasts against `values`.
      axis: Axes over which the variance is taken; all by default.
    """
    (wide,) = widen(values)
    count = jnp.maximum(jnp.sum(jnp.broadcast_to(mask, wide.shape), axis=axis, keepdims=True, dtype=wide.dtype), 1.0)
    mean = jnp.sum(jnp.where(mask, wide, 0.0), axis=axis, keepdims=True) / count
    return masked_mean(jnp.square(jnp.where(mask, wide, mean) - mean), mask, axis=axis)
