"""Training state: a pytree of arrays that every training step takes and returns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ugs_jax.detectors import TrainableDetector
from ugs_jax.experiment.freezing import frozen_paths, without

Tree = dict[str, Any]
Metrics = dict[str, Array]
"""Scalar metrics of a step, by name."""
NO_BAD_STEP = -1


class TrainState(NamedTuple):
    """Training state.

    Attributes:
      step: Number of steps taken.
      bad_step: First step with a loss, gradient or update that is not finite; −1 if all were finite. After this step
        nothing else changes, so the parameters stay the last good ones until the host checks.
      params: Parameters.
      stats: Running batch statistics.
      opt_state: State of the optax chain.
      ema_params: Moving average of `params`.
      ema_stats: Moving average of `stats`.
    """

    step: Int[Array, ""]
    bad_step: Int[Array, ""]
    params: Tree
    stats: Tree
    opt_state: Any
    ema_params: Tree
    ema_stats: Tree


class Averages(NamedTuple):
    """Averaged parameters and batch statistics: the part of a `TrainState` that inference needs.

    Attributes:
      ema_params: Parameters.
      ema_stats: Batch statistics.
    """

    ema_params: Tree
    ema_stats: Tree


def create_state(
    detector: TrainableDetector, optimizer: optax.GradientTransformation, seed: int, freeze: Sequence[str] = ()
) -> TrainState:
    """Return the state before the first step.

    The moving averages start as copies of the arrays that they average, so that the whole state can be donated.

    Args:
      detector: Detector to be initialised.
      optimizer: Optimizer.
      seed: Seed of the initialisation.
      freeze: Patterns of the parameters that do not learn. The optimizer has no state for them.
    """
    params, stats = detector.init(seed)
    learned = without(params, frozen_paths(params, stats, freeze).params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        bad_step=jnp.full((), NO_BAD_STEP, jnp.int32),
        params=params,
        stats=stats,
        opt_state=optimizer.init(learned),
        ema_params=jax.tree.map(jnp.copy, params),
        ema_stats=jax.tree.map(jnp.copy, stats),
    )
