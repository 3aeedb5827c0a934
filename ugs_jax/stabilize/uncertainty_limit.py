"""Shorten steps while the prediction is unusually uncertain: the limit by uncertainty."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.arithmetic import scaled
from ugs_jax.stabilize.checks import check_number, scalar


class UncertaintyLimitState(NamedTuple):
    """State of `limit_by_uncertainty`.

    Attributes:
      count: Number of updates with a finite uncertainty.
      limited: Number of updates that were shortened.
      scale: Factor of the last update, in [0, 1].
      uncertainty: Running mean of the uncertainty. NaN before the first value and after an update without the argument.
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    scale: Array
    uncertainty: Array


def limit_by_uncertainty(
    power: Array | float = 1.0, decay: Array | float = 0.99
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates while the uncertainty is above its running mean. Updates are never lengthened or turned.

    Let u be the uncertainty passed to `update`, and ū its running mean before that. Updates are multiplied by

    .. math:: s = \min(1, \bar u / u)^p

    A steady uncertainty changes nothing, and a spike shortens the step. The first uncertainty starts the mean. A value
    that is not finite means that the uncertainty is unknown, for example for a batch without positives: updates and
    mean stay unchanged. Without the argument, updates also stay unchanged, but the mean becomes NaN and starts again
    with the next value.

    Args:
      power: Exponent p ≥ 0; 0 turns the limit off.
      decay: Decay of the running mean, in [0, 1).

    Returns:
      A transformation whose `update` takes `uncertainty`, a scalar ≥ 0, as an extra argument. The uncertainty of UGS is
      the mean normalised entropy of the positives, in [0, 1].

    Raises:
      ValueError: `power` or `decay` is out of range. From `update`: the uncertainty is not a scalar.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), limit_by_uncertainty())
      >>> state, g = tx.init(jnp.zeros(1)), jnp.array([-1.0])
      >>> for u in (0.2, 0.2, 0.8):
      ...     step, state = tx.update(g, state, uncertainty=u)
      ...     print(step)
      [1.]
      [1.]
      [0.25]
    """
    check_number("power", power, 0, closed=True)
    check_number("decay", decay, 0, 1, closed=True)

    def init(params: Any) -> UncertaintyLimitState:
        del params
        count, limited = jnp.zeros((2,), jnp.int32)  # separate arrays, so that they can be donated
        return UncertaintyLimitState(count, limited, jnp.ones(()), jnp.full((), jnp.nan, float))

    def update(
        updates: Any, state: UncertaintyLimitState, params: Any = None, *, uncertainty: Any = None, **extra_args: Any
    ) -> tuple[Any, UncertaintyLimitState]:
        del params, extra_args
        if uncertainty is None:
            unknown = jnp.full_like(state.uncertainty, jnp.nan)
            return updates, state._replace(scale=jnp.ones_like(state.scale), uncertainty=unknown)
        now = scalar("uncertainty", uncertainty).astype(state.uncertainty.dtype)
        usable = jnp.isfinite(now)
        mean = jnp.where(jnp.isfinite(state.uncertainty), state.uncertainty, now)
        spike = usable & (now > mean)
        scale = jnp.where(spike, (mean / jnp.where(spike, now, 1)) ** power, 1)
        new = UncertaintyLimitState(
            jnp.where(usable, optax.safe_increment(state.count), state.count),
            state.limited + (scale < 1),
            scale.astype(state.scale.dtype),
            jnp.where(usable, decay * mean + (1 - decay) * now, state.uncertainty).astype(state.uncertainty.dtype),
        )
        return scaled(updates, scale), new

    return optax.GradientTransformationExtraArgs(init, update)
