"""The stabilizer for single boxes: unchanged losses, with the gradient of each box limited by its own curvature."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ugs_jax.curvature.registry import eigenvalues
from ugs_jax.stabilize.checks import check_number
from ugs_jax.stabilize.cotangent import with_scaled_gradient


def stabilize_loss(loss_fn: Callable[..., Array], *, max_curvature: Array | float) -> Callable[..., Array]:
    r"""Return a loss with the same values whose gradient is limited where a box's curvature exceeds `max_curvature`.

    The gradient of every box is multiplied by min(1, κ_max/λ_max(H)), with λ_max the largest eigenvalue of the exact
    Hessian of that box's loss by its coordinates. In gradient descent with a learning rate of at most 1/κ_max no box
    overshoots the minimum of its parabola. A box whose Hessian is not finite (at the tip of a cone, or at an infinite
    loss) keeps its loss and has the gradient 0.

    Args:
      loss_fn: Function `loss_fn(boxes, *args)` that returns one value for each box, [..., d] → [...]. The value of a
        box depends on no other box. It is twice differentiable almost everywhere, as all of `ugs_jax.losses` are.
      max_curvature: Limit κ_max > 0, in the unit of the Hessian: 1/px² for boxes in px. A negative traced value counts
        as 0.

    Returns:
      A function of the same arguments. It raises ValueError if `loss_fn` does not return one value for each box.

    Raises:
      ValueError: `max_curvature` is not above 0.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> l2 = lambda x, t, w: (((x - t) / w) ** 2).sum(-1)  # H = 2/w²
      >>> x, t, w = jnp.zeros((2, 1)), jnp.ones((2, 1)), jnp.array([[1.0], [10.0]])
      >>> limited = stabilize_loss(l2, max_curvature=0.02)
      >>> print(limited(x, t, w), jax.grad(lambda x: limited(x, t, w).sum())(x).ravel())
      [1.   0.01] [-0.02 -0.02]
    """
    check_number("max_curvature", max_curvature, 0)

    def limited(boxes: Array, *args: Any) -> Array:
        steepest = eigenvalues(loss_fn, jax.lax.stop_gradient(boxes), *jax.lax.stop_gradient(args))[..., -1]
        steepest = jnp.where(jnp.isfinite(steepest), steepest, jnp.inf)
        allowed = jnp.maximum(max_curvature, 0)
        scale = jnp.where(steepest > allowed, allowed / jnp.where(steepest > 0, steepest, 1), 1)
        return with_scaled_gradient(loss_fn, boxes, args, scale)

    return limited
