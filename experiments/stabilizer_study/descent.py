"""Gradient descent from the same starts under many learning rates at once, plain or stabilized in several ways."""

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
    """Minimisation problem with independent members (boxes, or a single function), each with one row of parameters.

    Attributes:
      start: Start of the parameters, [members, ...].
      loss: Function from parameters to one value for each member. The sum of the values is minimised.
      score: Function from parameters to one value for each group, by which success is judged.
      least: Lowest value of the loss of every member.
    """

    start: Array
    loss: BoxLoss
    score: BoxLoss
    least: Array | float = 0.0


class Arm(NamedTuple):
    """Way to stabilize. The default does not stabilize at all.

    Attributes:
      per_box: Use `stabilize_loss` with κ_max = per_box / learning rate.
      every: Use `ugs_stabilize` with an exact Hessian-vector product every `every` steps.
      bound: Use `ugs_stabilize` with the largest eigenvalue of any member's exact Hessian as the curvature.
      fraction: Constant c of `ugs_stabilize`.
      value: Use `limit_by_value`, written out: the update u is multiplied by min(1, value · (f − f*)/(−gᵀu)), so that
        the linear model of the loss never falls below its lowest value f* (Polyak's step size as a limit).
      per_box_value: Use `limit_loss_by_value`, written out: the gradient g of every member is multiplied by
        min(1, per_box_value · (f − f*)/(rate · ‖g‖²)).
    """

    per_box: float | None = None
    every: int | None = None
    bound: bool = False
    fraction: float = 1.0
    value: float | None = None
    per_box_value: float | None = None

    def member(self) -> list[optax.GradientTransformation]:
        """Return the transforms at the end of the optimizer chain."""
        if self.every is None and not self.bound:
            return []
        return [ugs_stabilize(self.fraction, every=self.every or 1)]


class Trajectories(NamedTuple):
    """Records of the descents, at the start and then at equal intervals.

    Attributes:
      steps: Steps taken, [time].
      losses: Losses, [time, rates, members]; NaN after the first loss that was not finite.
      scores: Scores, [time, rates, groups].
      shortened: Share of the steps that `ugs_stabilize` shortened, [rates].
    """

    steps: np.ndarray
    losses: np.ndarray
    scores: np.ndarray
    shortened: np.ndarray


def descend(
    problem: Problem, optimizer: str, arm: Arm, rates: Float[np.ndarray, "rates"], *, steps: int, records: int = 100
) -> Trajectories:
    """Run the descents of all learning rates at once, in the precision of the session.

    Args:
      problem: Problem to be minimised.
      optimizer: Name from `OPTIMIZERS`.
      arm: Way to stabilize.
      rates: Learning rates.
      steps: Number of steps.
      records: Number of records after the start.

    Raises:
      ValueError: `steps` is not a multiple of `records`.
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
    """Return min(1, limit/wanted) if `wanted` is positive, and 1 otherwise."""
    return jnp.where(wanted > 0, jnp.clip(limit / jnp.where(wanted > 0, wanted, 1), 0, 1), 1)
