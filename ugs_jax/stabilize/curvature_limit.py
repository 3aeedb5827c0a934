"""Shorten steps that overshoot: the curvature limit."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.arithmetic import dot, scaled, squared_norm


class CurvatureLimitState(NamedTuple):
    """State of `limit_by_curvature`.

    Attributes:
      count: updates so far.
      limited: how many of them were shortened.
      scale: factor of the last one, in [0, 1].
      curvature: uᵀHu/‖u‖² along the last update u, as given or as last measured; 0 while nothing is known.
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    scale: Array
    curvature: Array


def limit_by_curvature(
    fraction: Array | float = 1.0, obj_fn: Callable[[Any], Array] | None = None, every: int = 1
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates that curvature makes overshoot; never lengthen, never turn.

    With the gradient g and the update u (what will be added to the parameters), the loss along the update is to second
    order m(s) = s·gᵀu + ½ s²·uᵀHu, lowest at s* = −gᵀu / uᵀHu. The update is multiplied by

    .. math:: s = \min(1, \max(0, c\, s^*))

    wherever uᵀHu > 0, and left as it is elsewhere: for 0 < c < 2 the model never rises. For plain gradient descent this
    is a learning rate of at most c/κ. uᵀHu comes from, in order:

    1. `curvature` passed to `update`: a scalar κ (an upper bound will do) gives κ‖u‖², a tree like the parameters is
       the diagonal of H;
    2. `value_fn` passed to `update`, or else `obj_fn`: an exact Hessian-vector product every `every` updates, in
       between uᵀHu/‖u‖² as last measured;
    3. nothing: no limit.

    It belongs last in a chain, after the learning rate, where the update is the step itself. Without `grad` there is no
    limit either.

    Args:
      fraction: c, in (0, 2): 1 goes to the lowest point of the model, below 1 stops short of it.
      obj_fn: from parameters to a scalar loss that is the same at every update. For the loss of a batch pass `value_fn`
        to `update`, a function of the parameters made inside the jitted step. Under a sharded mesh the product is that
        of the global loss, as `jax.jit` computes it.
      every: updates between two Hessian-vector products, at least 1. A product of ten steps ago is hardly better than
        none where curvatures differ (experiments/results/stabilizer_study.md).

    Returns:
      A transformation whose `update` takes `grad` (of the loss, like the updates), `curvature` and `value_fn` as extra
      arguments.

    Raises:
      ValueError: `every` below 1.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> steep = lambda x: 50.0 * jnp.sum(x**2)  # κ = 100: gradient descent needs lr < 0.02
      >>> tx = optax.chain(optax.sgd(1.0), limit_by_curvature())
      >>> x, state = jnp.array([1.0]), tx.init(jnp.array([1.0]))
      >>> g = jax.grad(steep)(x)
      >>> u, state = tx.update(g, state, x, grad=g, curvature=100.0)
      >>> print(optax.apply_updates(x, u))
      [0.]
    """
    if every < 1:
        raise ValueError(f"every: expected at least 1 update between Hessian-vector products, got {every}")

    def init(params: Any) -> CurvatureLimitState:
        del params
        count, limited = jnp.zeros((2,), jnp.int32)  # not one array twice, or the state could not be donated
        return CurvatureLimitState(count, limited, jnp.ones(()), jnp.zeros(()))

    def update(
        updates: Any,
        state: CurvatureLimitState,
        params: Any = None,
        *,
        grad: Any = None,
        curvature: Any = None,
        value_fn: Callable[[Any], Array] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, CurvatureLimitState]:
        del extra_args
        square = squared_norm(updates)
        function = value_fn or obj_fn
        along, scale = state.curvature.astype(square.dtype), jnp.ones_like(square)
        if grad is not None and (curvature is not None or function):
            if curvature is not None:
                along = _given(curvature, updates, square)
            elif function:
                refresh = partial(_measured, function, params, updates, square)
                along = jax.lax.cond(state.count % every == 0, refresh, lambda: state.curvature.astype(square.dtype))
            bend = along * square
            best = -dot(grad, updates) / jnp.where(bend > 0, bend, 1)
            scale = jnp.where(bend > 0, jnp.clip(fraction * best, 0, 1), 1)
        new = CurvatureLimitState(
            optax.safe_increment(state.count),
            state.limited + (scale < 1),
            scale.astype(state.scale.dtype),
            along.astype(state.curvature.dtype),
        )
        return scaled(updates, scale), new

    return optax.GradientTransformationExtraArgs(init, update)


def _given(curvature: Any, updates: Any, square: Array) -> Array:
    if len(jax.tree.leaves(curvature)) == 1 and jnp.ndim(jax.tree.leaves(curvature)[0]) == 0:
        return jnp.asarray(jax.tree.leaves(curvature)[0], square.dtype)
    squares = jax.tree.map(lambda u: jnp.square(u.astype(jnp.promote_types(u.dtype, jnp.float32))), updates)
    return dot(curvature, squares) / jnp.where(square > 0, square, 1)


def _measured(function: Callable[[Any], Array], params: Any, updates: Any, square: Array) -> Array:
    if params is None:
        raise ValueError("limit_by_curvature: expected `params` for an exact product, got None; pass them to update")
    direction = jax.tree.map(lambda p, u: u.astype(p.dtype), params, updates)
    _, product = jax.jvp(jax.grad(function), (params,), (direction,))
    return (dot(product, updates) / jnp.where(square > 0, square, 1)).astype(square.dtype)
