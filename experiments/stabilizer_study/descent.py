"""Descent from the same starts under many learning rates at once, plain or stabilized in several ways."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float

from ugs_jax.curvature import eigenvalues
from ugs_jax.stabilize import stabilize_loss, ugs_stabilize

BoxLoss = Callable[[Array], Array]

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "SGD": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "Adam": optax.adam,
}


class Problem(NamedTuple):
    """Independent members (boxes, or one function) with one row of parameters each.

    Attributes:
      start: [members, ...].
      loss: parameters → one value a member; their sum is minimised.
      score: parameters → one value a group, by which success is judged.
      least: lowest value of every member's loss.
    """

    start: Array
    loss: BoxLoss
    score: BoxLoss
    least: Array | float = 0.0


class Arm(NamedTuple):
    """How to stabilize; with nothing set, not at all.

    Attributes:
      per_box: `stabilize_loss` with κ_max = per_box / learning rate.
      every: `ugs_stabilize` with an exact Hessian-vector product every so many steps.
      bound: `ugs_stabilize` with the largest eigenvalue of any member's exact Hessian as bound.
      fraction: c of `ugs_stabilize`.
      value: `limit_by_value`, written out: the update u is multiplied by min(1, value · (f − f*)/(−gᵀu)), so that the
        linear model never promises to fall below the loss's lowest value f* (Polyak's step size as a limit).
      per_box_value: `limit_loss_by_value`, written out: every member's gradient g is multiplied by
        min(1, per_box_value · (f − f*)/(rate · ‖g‖²)).
    """

    per_box: float | None = None
    every: int | None = None
    bound: bool = False
    fraction: float = 1.0
    value: float | None = None
    per_box_value: float | None = None

    def member(self) -> list[optax.GradientTransformation]:
        """What goes at the end of the chain."""
        if self.every is None and not self.bound:
            return []
        return [ugs_stabilize(self.fraction, every=self.every or 1)]


class Trajectories(NamedTuple):
    """What was recorded, at the start and then at equal distances.

    Attributes:
      steps: [time], steps taken.
      losses: [time, rates, members]; not a number from the first loss on that was not finite.
      scores: [time, rates, groups].
      shortened: [rates], share of the steps that `ugs_stabilize` shortened.
    """

    steps: np.ndarray
    losses: np.ndarray
    scores: np.ndarray
    shortened: np.ndarray


def descend(
    problem: Problem, optimizer: str, arm: Arm, rates: Float[np.ndarray, "rates"], *, steps: int, records: int = 100
) -> Trajectories:
    """Run all learning rates side by side, in the precision of the session.

    Raises:
      ValueError: `steps` is no multiple of `records`.
    """
    if steps % records:
        raise ValueError(f"steps: expected a multiple of {records} records, got {steps}")

    def one(rate: Array) -> tuple[Array, Array, Array]:
        loss = problem.loss if arm.per_box is None else stabilize_loss(problem.loss, max_curvature=arm.per_box / rate)
        chain = optax.with_extra_args_support(optax.chain(OPTIMIZERS[optimizer](rate), *arm.member()))

        def step(_: int, carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
            params, state, finite = carry
            total = lambda p: jnp.sum(loss(p))  # noqa: E731
            value, grad = jax.value_and_grad(total)(params)
            extra: dict[str, Any] = {"grad": grad, "value": value}
            if arm.every is not None:
                extra["value_fn"] = total
            if arm.bound:
                extra["curvature"] = jnp.max(eigenvalues(loss, params)[..., -1])
            given = grad
            if arm.per_box_value is not None:
                gaps, squares = problem.loss(params) - problem.least, jnp.sum(jnp.square(grad), axis=-1)
                given = grad * _share(arm.per_box_value * gaps, rate * squares)[:, None]
            updates, state = chain.update(given, state, params, **extra)
            if arm.value is not None:
                gap = jnp.sum(problem.loss(params) - problem.least)
                updates = updates * _share(arm.value * gap, -jnp.sum(grad * updates))
            return optax.apply_updates(params, updates), state, finite & jnp.isfinite(value)

        def record(carry: tuple[Array, Any, Array], _: None) -> tuple[tuple[Array, Any, Array], tuple[Array, Array]]:
            carry = jax.lax.fori_loop(0, steps // records, step, carry)
            params, _, finite = carry
            return carry, (jnp.where(finite, problem.loss(params), jnp.nan), problem.score(params))

        start = (problem.start, chain.init(problem.start), jnp.array(True))
        (_, state, _), (losses, scores) = jax.lax.scan(record, start, length=records)
        losses = jnp.concatenate([problem.loss(problem.start)[None], losses])
        scores = jnp.concatenate([problem.score(problem.start)[None], scores])
        limited = optax.tree.get(state, "limited") if arm.member() else jnp.zeros(())
        return losses, scores, limited / steps

    losses, scores, shortened = jax.jit(jax.vmap(one, out_axes=(1, 1, 0)))(jnp.asarray(rates))
    times = np.arange(records + 1) * (steps // records)
    return Trajectories(times, np.asarray(losses), np.asarray(scores), np.asarray(shortened))


def _share(limit: Array, wanted: Array) -> Array:
    """min(1, limit/wanted) where something above 0 is wanted, 1 elsewhere."""
    return jnp.where(wanted > 0, jnp.clip(limit / jnp.where(wanted > 0, wanted, 1), 0, 1), 1)
