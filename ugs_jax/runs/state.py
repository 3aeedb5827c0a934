"""What a training step carries along: a pytree of arrays and nothing else."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ugs_jax.detectors import TrainableDetector

Tree = dict[str, Any]
Metrics = dict[str, Array]
"""What a step measures, by name: scalars."""
NO_BAD_STEP = -1


class TrainState(NamedTuple):
    """Training state.

    Attributes:
      step: steps taken.
      bad_step: first step whose loss, gradient or update was not finite, −1 while there is none. From then on nothing
        else changes, so parameters stay the last good ones until the host looks.
      params: parameters.
      stats: running batch statistics.
      opt_state: of the optax chain.
      ema_params: moving average of `params`.
      ema_stats: moving average of `stats`.
    """

    step: Int[Array, ""]
    bad_step: Int[Array, ""]
    params: Tree
    stats: Tree
    opt_state: Any
    ema_params: Tree
    ema_stats: Tree


def create_state(detector: TrainableDetector, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step; the averages start as copies, so that all of it can be donated."""
    params, stats = detector.init(seed)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        bad_step=jnp.full((), NO_BAD_STEP, jnp.int32),
        params=params,
        stats=stats,
        opt_state=optimizer.init(params),
        ema_params=jax.tree.map(jnp.copy, params),
        ema_stats=jax.tree.map(jnp.copy, stats),
    )
