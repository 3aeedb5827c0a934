"""Shorten steps that promise to lower the loss below its minimum: the limit by value, for losses with kinks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.arithmetic import dot, scaled
from ugs_jax.stabilize.checks import check_number, scalar
from ugs_jax.stabilize.cotangent import with_scaled_gradient
from ugs_jax.stabilize.layout import like_updates


class ValueLimitState(NamedTuple):
    """State of `limit_by_value`.

    Attributes:
      count: Number of updates with a gradient and a value.
      limited: Number of updates that were shortened.
      scale: Factor of the last update, in [0, 1].
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    scale: Array


def limit_by_value(
    minimum: Array | float = 0.0, fraction: Array | float = 1.0
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates whose linear model falls below the lowest value of the loss.

    .. math:: u \leftarrow u \cdot \min\left(1, \max\left(0, c\,\frac{f - f^*}{-g^\top u}\right)\right)

    with u the update, g the gradient, f the loss and f* its lowest value. Updates are never lengthened or turned.

    IoU losses have a kink at their optimum. The slope does not fade there, the Hessian on either side does not show the
    kink, and a step in proportion to the slope overshoots. The value of the loss does show it: f is nearly f*. For
    gradient descent on a convex loss, with or without kinks, and with c ≤ 2, the distance to an optimum of value f*
    never grows, at any learning rate. No second derivative is needed. After momentum or Adam, whose steps do not follow
    the gradient, this limit did not help (experiments/results/stabilizer_study.md).

    An update that does not descend is returned unchanged, and so is one with a value that is not finite.

    Args:
      minimum: Lowest value f* of the loss, or a lower bound of it. A lower bound limits less.
      fraction: Factor c > 0.

    Returns:
      A transformation whose `update` takes `grad` (the gradient of the loss, a tree like the updates) and `value` as
      extra arguments. If either is missing, updates are returned unchanged.

    Raises:
      ValueError: `fraction` is not above 0. From `update`: `value` is not a scalar, or the gradient has another shape
        than the updates.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), limit_by_value())
      >>> distance = lambda x: jnp.abs(x).sum()  # SGD with rate 1 would jump across 0 and back for ever
      >>> x, state = jnp.array([2.25]), tx.init(jnp.array([2.25]))
      >>> for _ in range(3):
      ...     value, g = jax.value_and_grad(distance)(x)
      ...     u, state = tx.update(g, state, x, grad=g, value=value)
      ...     x = optax.apply_updates(x, u)
      >>> print(x)
      [0.]

    References:
      Polyak, Introduction to Optimization, 1987: his step size, here as a limit. For stochastic gradients: Loizou et
      al., AISTATS 2021, arXiv 2002.10542 (SPS_max). `optax.polyak_sgd` uses it as the step size itself.
    """
    check_number("fraction", fraction, 0)

    def init(params: Any) -> ValueLimitState:
        del params
        count, limited = jnp.zeros((2,), jnp.int32)  # separate arrays, so that they can be donated
        return ValueLimitState(count, limited, jnp.ones(()))

    def update(
        updates: Any, state: ValueLimitState, params: Any = None, *, grad: Any = None, value: Any = None, **extra: Any
    ) -> tuple[Any, ValueLimitState]:
        del params, extra
        if grad is None or value is None:
            return updates, state._replace(scale=jnp.ones_like(state.scale))
        gain = fraction * (scalar("value", value) - minimum)
        promised = -dot(like_updates("grad", grad, updates), updates)
        scale = jnp.where(jnp.isfinite(gain), _share(gain, promised), 1)
        new = ValueLimitState(
            optax.safe_increment(state.count), state.limited + (scale < 1), scale.astype(state.scale.dtype)
        )
        return scaled(updates, scale), new

    return optax.GradientTransformationExtraArgs(init, update)


def limit_loss_by_value(
    loss_fn: Callable[..., Array], *, learning_rate: Array | float, minimum: Array | float = 0.0
) -> Callable[..., Array]:
    r"""Return a loss with the same values, in which the gradient of each box is limited by the value of its loss.

    The gradient g of every box is multiplied by min(1, (f − f*)/(η‖g‖²)). In gradient descent with the learning rate η,
    the linear model of a box's loss then never falls below f*. This holds for boxes of every size, with or without
    kinks. A box whose loss or gradient is not finite keeps its loss and has the gradient 0. See `limit_by_value`.

    Args:
      loss_fn: Function `loss_fn(boxes, *args)` that returns one value for each box, [..., d] → [...]. The value of a
        box depends on no other box.
      learning_rate: Learning rate η > 0 of the descent on the sum of the losses, in the unit of boxes² over that of the
        loss.
      minimum: Lowest value f* of the loss of each box, [...] or a scalar. For cross entropy this is the entropy of the
        label.

    Returns:
      A function of the same arguments. It raises ValueError if `loss_fn` does not return one value for each box.

    Raises:
      ValueError: `learning_rate` is not above 0.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> distance = lambda x: jnp.abs(x).sum(-1)
      >>> x = jnp.array([[0.25], [8.0]])
      >>> limited = limit_loss_by_value(distance, learning_rate=1.0)
      >>> print(limited(x), jax.grad(lambda x: limited(x).sum())(x).ravel())
      [0.25 8.  ] [0.25 1.  ]
    """
    check_number("learning_rate", learning_rate, 0)

    def limited(boxes: Array, *args: Any) -> Array:
        fixed, *rest = jax.lax.stop_gradient((boxes, *args))
        value, pull_back = jax.vjp(lambda b: loss_fn(b, *rest), fixed)
        if value.shape != boxes.shape[:-1]:
            raise ValueError(
                f"expected a loss with one value per box, {boxes.shape[:-1]} for boxes of shape {boxes.shape}, got "
                f"{value.shape}"
            )
        (gradient,) = pull_back(jnp.ones_like(value))
        promised = learning_rate * jnp.sum(jnp.square(gradient), axis=-1)
        known = jnp.isfinite(value) & jnp.isfinite(promised)
        scale = jnp.where(known, _share(value - minimum, promised), 0)
        return with_scaled_gradient(loss_fn, boxes, args, scale)

    return limited


def _share(gain: Array, promised: Array) -> Array:
    """Return min(1, gain/promised) where `promised` is positive, and 1 elsewhere."""
    return jnp.where(promised > 0, jnp.clip(gain / jnp.where(promised > 0, promised, 1), 0, 1), 1)
