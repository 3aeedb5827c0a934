"""Shorten steps that overshoot: the limit by curvature."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.arithmetic import dot, is_masked, scaled, squared_norm, squares
from ugs_jax.stabilize.checks import check_every, check_number
from ugs_jax.stabilize.layout import like_updates, of_updates


class CurvatureLimitState(NamedTuple):
    """State of `limit_by_curvature`.

    Attributes:
      count: Number of updates.
      limited: Number of updates that were shortened.
      uphill: Number of updates that did not descend (gᵀu ≥ 0) and were returned unchanged. If this number grows with
        `count`, the transformation does not see the step itself: put it last in the chain, or inside optimizers with
        iterates of their own.
      scale: Factor of the last update, in [0, 1].
      curvature: Curvature uᵀHu/‖u‖² along the last update u, as given or as last measured. NaN if it is unknown.
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    uphill: Array
    scale: Array
    curvature: Array


def limit_by_curvature(
    fraction: Array | float = 1.0, obj_fn: Callable[[Any], Array] | None = None, every: Array | int = 1
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates that overshoot because of curvature. Updates are never lengthened or turned.

    Let g be the gradient and u the update, which will be added to the parameters. To second order, the loss along the
    update is m(s) = s·gᵀu + ½ s²·uᵀHu, which is lowest at s* = −gᵀu / uᵀHu. Where gᵀu < 0 and uᵀHu > 0 the update is
    multiplied by

    .. math:: s = \min(1, c\, s^*)

    and is returned unchanged elsewhere. For 0 < c < 2 the model never rises along an update that descends. For plain
    gradient descent this is a learning rate of at most c/κ. An update with gᵀu ≥ 0 is returned unchanged and is counted
    in the state (`uphill`). uᵀHu comes from the first of these sources that is given:

    1. `curvature`, passed to `update`: a scalar κ (an upper bound is enough) gives κ‖u‖², and a tree like the
       parameters is the diagonal of H;
    2. `value_fn`, passed to `update`, or else `obj_fn`: an exact Hessian-vector product every `every` updates. In
       between, the last measured uᵀHu/‖u‖² is used. A product that is not finite sets no limit, and the next update
       measures again;
    3. no source: no limit.

    Put this transformation last in a chain, after the learning rate, where the update is the step itself. Without
    `grad` there is no limit either. Under `optax.flatten` the extra arguments stay trees. `optax.masked` and
    `optax.partition` hide the masked parameters from `value_fn`. Put the limit outside of them:
    `optax.chain(optax.partition(…), limit_by_curvature())`. Complex updates and gradients follow optax's convention:
    `grad` is the conjugate of what `jax.grad` returns.

    Args:
      fraction: Factor c, in (0, 2). With 1 the update ends at the lowest point of the model, below 1 before it.
      obj_fn: Function from parameters to a scalar loss that is the same at every update. For the loss of a batch, pass
        `value_fn` to `update`: a function of the parameters that is made inside the jitted step. On a sharded mesh the
        product is that of the global loss, as `jax.jit` computes it. For `optax.inject_hyperparams` list `obj_fn` in
        `static_args`, because there other functions count as schedules.
      every: Number of updates between two Hessian-vector products, at least 1. Where curvatures differ, a product that
        is ten steps old is hardly better than no product (experiments/results/stabilizer_study.md).

    Returns:
      A transformation whose `update` takes `grad` (the gradient of the loss, a tree like the updates), `curvature` and
      `value_fn` as extra arguments.

    Raises:
      ValueError: `every` is below 1, or `fraction` is outside (0, 2). From `update`: the shape of an extra argument
        differs from that of the updates, or `params` is missing or masked where a product needs it.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> steep = lambda x: 50.0 * jnp.sum(x**2)  # κ = 100: gradient descent needs lr < 0.02
      >>> tx = optax.chain(optax.sgd(1.0), limit_by_curvature())
      >>> x, state = jnp.array([1.0]), tx.init(jnp.array([1.0]))
      >>> g = jax.grad(steep)(x)
      >>> u, state = tx.update(g, state, x, grad=g, curvature=100.0)
      >>> print(optax.apply_updates(x, u))
      [0.]
    """
    check_every(every)
    check_number("fraction", fraction, 0, 2)

    def init(params: Any) -> CurvatureLimitState:
        del params
        count, limited, uphill = jnp.zeros((3,), jnp.int32)  # separate arrays, so that they can be donated
        return CurvatureLimitState(count, limited, uphill, jnp.ones(()), jnp.full((), jnp.nan, float))

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
        along, scale, uphill = jnp.full_like(square, jnp.nan), jnp.ones_like(square), jnp.zeros((), bool)
        if grad is not None:
            slope = dot(like_updates("grad", grad, updates), updates)
            uphill = (slope >= 0) & (square > 0)
            if curvature is not None:
                along = _given(curvature, updates, square)
            elif function is not None:
                refresh = partial(_measured, of_updates(function, grad, updates), params, updates, square)
                last = state.curvature.astype(square.dtype)
                along = jax.lax.cond((state.count % every == 0) | ~jnp.isfinite(last), refresh, lambda: last)
            bend = along * square
            limits = (slope < 0) & (bend > 0) & jnp.isfinite(bend)
            scale = jnp.where(limits, jnp.clip(fraction * -slope / jnp.where(limits, bend, 1), 0, 1), 1)
        new = CurvatureLimitState(
            optax.safe_increment(state.count),
            state.limited + (scale < 1),
            state.uphill + uphill,
            scale.astype(state.scale.dtype),
            along.astype(state.curvature.dtype),
        )
        return scaled(updates, scale), new

    return optax.GradientTransformationExtraArgs(init, update)


def _given(curvature: Any, updates: Any, square: Array) -> Array:
    leaves = jax.tree.leaves(curvature)
    if len(leaves) == 1 and jnp.ndim(leaves[0]) == 0:
        return jnp.asarray(leaves[0], square.dtype)
    diagonal = like_updates("curvature", curvature, updates)
    return dot(diagonal, squares(updates)) / jnp.where(square > 0, square, 1)


def _measured(function: Callable[[Any], Array], params: Any, updates: Any, square: Array) -> Array:
    if params is None:
        raise ValueError("limit_by_curvature: expected `params` for an exact product, got None; pass them to update")
    direction = jax.tree.map(lambda p, u: u.astype(p.dtype), params, updates)
    try:
        _, product = jax.jvp(jax.grad(function), (params,), (direction,))
    except (TypeError, AttributeError) as error:
        if not any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))):
            raise
        raise ValueError(
            "value_fn: expected a function of the parameters that optax.masked or optax.partition leaves, got one that "
            f"fails on optax.MaskedNode ({error}); put the limit outside and last, "
            "optax.chain(optax.partition(…), ugs_stabilize())"
        ) from error
    # For complex parameters jax.grad returns the conjugate of the gradient.
    return (dot(jax.tree.map(jnp.conj, product), updates) / jnp.where(square > 0, square, 1)).astype(square.dtype)
