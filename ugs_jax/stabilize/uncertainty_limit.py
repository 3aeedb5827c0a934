"""Shorten steps when the prediction is suddenly unsure: the uncertainty limit."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.arithmetic import scaled


class UncertaintyLimitState(NamedTuple):
    """State of `limit_by_uncertainty`.

    Attributes:
      count: updates that came with an uncertainty.
      limited: how many of them were shortened.
      scale: factor of the last one, in [0, 1].
      uncertainty: running mean.
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    scale: Array
    uncertainty: Array


def limit_by_uncertainty(
    power: Array | float = 1.0, decay: Array | float = 0.99
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates while the uncertainty is above its running mean; never lengthen, never turn.

    With u the uncertainty passed to `update` and ū its running mean before, updates are multiplied by

    .. math:: s = \min(1, \bar u / u)^p

    Steady uncertainty changes nothing, a spike shortens the step. The first uncertainty seen starts the mean. Without
    one, or with one that is not finite, updates and mean stay as they are.

    Args:
      power: p ≥ 0; 0 turns it off.
      decay: of the running mean, in [0, 1).

    Returns:
      A transformation whose `update` takes `uncertainty`, a scalar ≥ 0, as extra argument. UGS's is the mean normalised
      entropy of the positives, in [0, 1].

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

    def init(params: Any) -> UncertaintyLimitState:
        del params
        count, limited = jnp.zeros((2,), jnp.int32)  # not one array twice, or the state could not be donated
        return UncertaintyLimitState(count, limited, jnp.ones(()), jnp.zeros(()))

    def update(
        updates: Any, state: UncertaintyLimitState, params: Any = None, *, uncertainty: Any = None, **extra_args: Any
    ) -> tuple[Any, UncertaintyLimitState]:
        del params, extra_args
        if uncertainty is None:
            return updates, state._replace(scale=jnp.ones_like(state.scale))
        now = jnp.asarray(uncertainty, state.uncertainty.dtype)
        usable = jnp.isfinite(now)
        first = state.count == 0
        mean = jnp.where(first, now, state.uncertainty)
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
