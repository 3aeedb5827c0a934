"""`ugs_stabilize`: the curvature and the uncertainty limit as one member of an optax chain."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.curvature_limit import CurvatureLimitState, limit_by_curvature
from ugs_jax.stabilize.uncertainty_limit import UncertaintyLimitState, limit_by_uncertainty


class StabilizeState(NamedTuple):
    """State of `ugs_stabilize`, readable by name: `optax.tree.get(opt_state, "scale")`.

    Attributes:
      count: updates so far.
      limited: how many of them were shortened.
      scale: factor of the last one, in [0, 1].
      curvature: uᵀHu/‖u‖² along the last update; 0 while nothing is known.
      uncertainty: running mean of the uncertainty.
      uncertain_count: updates that came with an uncertainty.
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    scale: Array
    curvature: Array
    uncertainty: Array
    uncertain_count: Array


def ugs_stabilize(
    fraction: Array | float = 1.0,
    power: Array | float = 1.0,
    *,
    decay: Array | float = 0.99,
    obj_fn: Callable[[Any], Array] | None = None,
    every: int = 1,
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates that curvature makes overshoot, or that come with a spike of uncertainty.

    .. math:: u \leftarrow u \cdot \min(1, \max(0, c\,s^*)) \cdot \min(1, \bar q / q)^p, \; s^* = -g^\top u / u^\top Hu

    with u the update, g the gradient, H the Hessian, q the uncertainty and q̄ its running mean.

    The step is never lengthened and never turned, and to the bit what came in while nothing is wrong. It acts on the
    step itself, so it belongs *last* in a chain, after the learning rate: Adam and its like cancel any slow rescaling
    of what they are fed. What is not passed to `update` turns off only what needs it: without `grad`, or without any
    source of curvature (see `limit_by_curvature`), only the uncertainty counts; without `uncertainty` only the
    curvature does.

    Args:
      fraction: c, in (0, 2).
      power: p ≥ 0.
      decay: of the running mean of the uncertainty.
      obj_fn: see `limit_by_curvature`.
      every: see `limit_by_curvature`.

    Returns:
      A transformation whose `update` takes the extra arguments `grad`, `curvature`, `value_fn` and `uncertainty`.

    Raises:
      ValueError: `every` below 1.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from ugs_jax.stabilize import ugs_stabilize
      >>> tx = optax.chain(optax.adam(10.0), ugs_stabilize(every=1))
      >>> loss = lambda x: jnp.sum(x**4)
      >>> x = jnp.array([1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     value, g = jax.value_and_grad(loss)(x)
      ...     u, state = tx.update(g, state, x, grad=g, value=value, value_fn=loss)
      ...     x = optax.apply_updates(x, u)
      >>> print(x.round(3), int(optax.tree.get(state, "limited")))
      [0.296] 3

    References:
      Sun et al., Uncertainty-Aware Gradient Stabilization for Small Object Detection, ICCV 2025, whose stabilization
      acts on the loss; this member is ours.
    """
    curved, unsure = limit_by_curvature(fraction, obj_fn, every), limit_by_uncertainty(power, decay)

    def init(params: Any) -> StabilizeState:
        del params
        # Not one array twice, or the state could not be donated.
        count, limited, uncertain_count = jnp.zeros((3,), jnp.int32)
        curvature, uncertainty = jnp.zeros((2,))
        return StabilizeState(count, limited, jnp.ones(()), curvature, uncertainty, uncertain_count)

    def update(
        updates: Any, state: StabilizeState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StabilizeState]:
        none = jnp.zeros((), jnp.int32)
        before = CurvatureLimitState(state.count, none, state.scale, state.curvature)
        updates, by_curvature = curved.update(updates, before, params, **extra_args)
        doubt = UncertaintyLimitState(state.uncertain_count, none, state.scale, state.uncertainty)
        updates, by_uncertainty = unsure.update(updates, doubt, params, **extra_args)
        scale = by_curvature.scale * by_uncertainty.scale
        limited = (by_curvature.limited + by_uncertainty.limited) > 0
        new = StabilizeState(
            by_curvature.count,
            state.limited + limited,
            scale,
            by_curvature.curvature,
            by_uncertainty.uncertainty,
            by_uncertainty.count,
        )
        return updates, new

    return optax.GradientTransformationExtraArgs(init, update)
