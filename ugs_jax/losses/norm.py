"""Norms of the difference between predicted and target offsets, summed over the parameters of a box."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ugs_jax.numerics import Scalar, magnitude, narrow, widen


def l1(offsets: Float[Array, "*#batch d"], targets: Float[Array, "*#batch d"]) -> Float[Array, "*#batch"]:
    """Sum of absolute differences; the gradient at 0 is 0.

    Args:
      offsets: Predicted offsets in units of the anchor.
      targets: Target offsets.

    Returns:
      Unreduced loss, one value per box.

    Example:
      >>> import jax.numpy as jnp
      >>> print(l1(jnp.array([1.0, 0.0, 0.0, -2.0]), jnp.zeros(4)))
      3.0
    """
    return narrow(jnp.sum(magnitude(_difference(offsets, targets)), axis=-1), offsets, targets)


def l2(offsets: Float[Array, "*#batch d"], targets: Float[Array, "*#batch d"]) -> Float[Array, "*#batch"]:
    """Sum of squared differences, without a factor ½, as in Eq. 1 of the supplement (Sun et al., ICCV 2025).

    Args:
      offsets: Predicted offsets in units of the anchor.
      targets: Target offsets.

    Example:
      >>> import jax.numpy as jnp
      >>> print(l2(jnp.array([1.0, 0.0, 0.0, -2.0]), jnp.zeros(4)))
      5.0
    """
    return narrow(jnp.sum(jnp.square(_difference(offsets, targets)), axis=-1), offsets, targets)


def smooth_l1(
    offsets: Float[Array, "*#batch d"], targets: Float[Array, "*#batch d"], *, beta: Scalar = 1.0
) -> Float[Array, "*#batch"]:
    """Sum of d²/(2β) where |d| < β and |d| − β/2 elsewhere.

    Args:
      offsets: Predicted offsets in units of the anchor.
      targets: Target offsets.
      beta: Absolute difference at which the parabola meets the line; > 0.

    Returns:
      Unreduced loss, one value per box. Girshick, Fast R-CNN, ICCV 2015, Eq. 3.

    Raises:
      ValueError: `beta` is not above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> print(smooth_l1(jnp.array([1.0, 0.0, 0.0, -2.0]), jnp.zeros(4)))
      2.0
    """
    if not beta > 0:
        raise ValueError(f"beta: expected a number > 0, got {beta}; use l1 for the limit 0")
    size = magnitude(_difference(offsets, targets))
    # The operand of the parabola is bounded, so that the unused branch does not overflow.
    near = jnp.square(jnp.minimum(size, beta)) / (2 * beta)
    return narrow(jnp.sum(jnp.where(size < beta, near, size - beta / 2), axis=-1), offsets, targets)


def _difference(offsets: Array, targets: Array) -> Array:
    wide, goal = widen(offsets, targets)
    return wide - goal
