"""One training step: a pure function of state and batch, jitted over a mesh with donated state."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from data_pipeline import Batch
from ugs_jax.detectors import Outputs, TrainableDetector
from ugs_jax.experiment.config import Ema, Experiment
from ugs_jax.experiment.freezing import Paths, frozen_paths, joined, without
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.runs.sharding import batch_sharding, replicated, state_sharding
from ugs_jax.runs.state import NO_BAD_STEP, Metrics, TrainState, create_state
from ugs_jax.stabilize import CurvatureLimitState, StabilizeState, UncertaintyLimitState
from ugs_jax.training.accumulation import accumulate_gradient, map_parts, mean_loss
from ugs_jax.training.feature_gradients import feature_gradient_norms
from ugs_jax.training.objective import assigner_of, matches_of, objective
from ugs_jax.training.sharpness import sharpness_by_size
from ugs_jax.training.unknown import MAY_BE_UNKNOWN, NOW_AND_THEN

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
_LossOf = Callable[[Any, Any, Batch, Array, Array | None], tuple[Array, tuple[Any, Metrics, Outputs]]]
"""Loss function of parameters, batch statistics, a batch or a part of it, and the numbers of the step and the part."""


def make_step(
    detector: TrainableDetector,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    loss_weights: LossWeights,
    ema: Ema,
    measure_every: int = 20,
    seed: int = 0,
    accumulate: int = 1,
    freeze: Sequence[str] = (),
) -> Step:
    """Return the training step as a pure function. It is not jitted; see `jit_step`.

    Args:
      detector: Detector to train.
      optimizer: Optax chain. `grad`, `value`, `value_fn` and `uncertainty` are passed to the transformations that take
        them. A batch without positives has the uncertainty NaN, which means unknown.
      learning_rate: Schedule of the learning rate, for the log.
      loss_weights: Weights of the parts of the loss.
      ema: Settings of the moving average of the parameters.
      measure_every: Number of steps between measurements of `sharpness_by_size` and `feature_gradient_norms`. These
        metrics are NaN in all other steps, and in a step whose gradient is not finite.
      seed: Seed of the random dropping in transformers. Seed and step number determine it, on any number of devices.
      accumulate: Number of parts of a batch. They are computed one after the other, and their gradients are averaged.
      freeze: Patterns of the parameters that do not learn; see `Experiment.freeze`. No gradient is computed for them,
        and the optimizer does not see them.
    """
    loss_of = _loss_of(detector, loss_weights, seed)

    def measurements(params: Any, stats: Any, outputs: Outputs, batch: Batch, due: Array) -> Metrics:
        def measure() -> Metrics:
            matches = matches_of(
                outputs, batch, detector.localization, detector.arch, loss_weights, assigner_of(detector)
            )
            pulls = feature_gradient_norms(detector, params, stats, outputs, batch, loss_weights)
            return {**sharpness_by_size(matches, detector.localization), **pulls}

        unknown = lambda: dict.fromkeys(NOW_AND_THEN, jnp.full((), jnp.nan))  # noqa: E731
        return jax.lax.cond(due, measure, unknown)

    def gradient_of(
        learned: Any, params: Any, stats: Any, batch: Batch, count: Array, part: Array | None
    ) -> tuple[Any, Any, Metrics]:
        loss = lambda learned: loss_of(joined(learned, params), stats, batch, count, part)  # noqa: E731
        gradient, (new_stats, metrics, outputs) = jax.grad(loss, has_aux=True)(learned)
        # The condition on the gradient lets measurements wait until the backward pass has freed its memory.
        due = ((count + 1) % measure_every == 0) & jnp.isfinite(optax.tree.norm(gradient))
        return gradient, new_stats, {**metrics, **measurements(params, stats, outputs, batch, due)}

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        count = state.step + 1
        frozen = frozen_paths(state.params, state.stats, freeze)
        learned = without(state.params, frozen.params)
        gradient, stats, metrics = accumulate_gradient(
            lambda stats, rows, part: gradient_of(learned, state.params, stats, rows, state.step, part),
            learned,
            state.stats,
            batch,
            accumulate,
        )
        norm = optax.tree.norm(gradient)
        updates, opt_state = optax.with_extra_args_support(optimizer).update(
            gradient,
            state.opt_state,
            learned,
            grad=gradient,
            value=metrics["loss"],
            value_fn=lambda learned: mean_loss(
                lambda params, rows, part: loss_of(params, state.stats, rows, state.step, part)[0],
                joined(learned, state.params),
                batch,
                accumulate,
            ),
            uncertainty=metrics["uncertainty"],
        )
        params = joined(optax.apply_updates(learned, updates), state.params)
        decay = ema.decay * (1 - jnp.exp(-count / ema.ramp))

        def average(old: Any, new: Any, fixed: Paths) -> Any:
            moving = jax.tree.map(lambda o, n: decay * o + (1 - decay) * n, without(old, fixed), without(new, fixed))
            return joined(moving, old)

        averages = average(state.ema_params, params, frozen.params), average(state.ema_stats, stats, frozen.stats)
        advanced = (params, stats, opt_state, *averages)
        metrics = {
            **metrics,
            "gradient_norm": norm,
            "update_norm": optax.tree.norm(updates),
            "learning_rate": learning_rate(state.step),
            **stabilizer_metrics(opt_state),
        }
        good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm) & jnp.isfinite(metrics["update_norm"])
        bad_step = jnp.where((state.bad_step == NO_BAD_STEP) & ~good, state.step, state.bad_step)
        kept = jax.tree.map(lambda new, old: jnp.where(bad_step == NO_BAD_STEP, new, old), advanced, tuple(state[2:]))
        return TrainState(count, bad_step, *kept), {**metrics, "bad_step": bad_step}

    return step


def make_finite_check(
    detector: TrainableDetector, loss_weights: LossWeights, seed: int = 0, accumulate: int = 1
) -> Callable[[TrainState, Batch], dict[str, Any]]:
    """Return a function that checks which tensors of a step are finite.

    Args:
      detector: Detector to train.
      loss_weights: Weights of the parts of the loss.
      seed: Seed of the random dropping in transformers.
      accumulate: Number of parts of a batch.

    Returns:
      A pure function of state and batch. It returns a bool for each array of the `parameters`, the `outputs` of the
      network, the `loss` and its parts, and the `gradient`.
    """
    gradient_of = jax.grad(_loss_of(detector, loss_weights, seed), has_aux=True)

    def check(state: TrainState, batch: Batch) -> dict[str, Any]:
        def finite(rows: Batch, part: Array | None) -> dict[str, Any]:
            gradient, (_, parts, outputs) = gradient_of(state.params, state.stats, rows, state.step, part)
            levels = [level._asdict() for level in outputs.levels]
            parts = {name: value for name, value in parts.items() if name not in MAY_BE_UNKNOWN}
            tensors = {"parameters": state.params, "outputs": levels, "loss": parts, "gradient": gradient}
            return jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), tensors)

        return jax.tree.map(jnp.all, map_parts(finite, batch, accumulate))

    return check


def first_non_finite(finite_by_kind: dict[str, Any]) -> str:
    """Return the name of the first tensor that is not finite, in the order in which a step computes them.

    Args:
      finite_by_kind: Result of the function that `make_finite_check` returns.
    """
    finite_by_kind = jax.device_get(finite_by_kind)
    for kind in ("parameters", "outputs", "loss", "gradient"):
        for path, finite in jax.tree_util.tree_leaves_with_path(finite_by_kind[kind]):
            if not finite:
                return f"{kind} {jax.tree_util.keystr(path, simple=True, separator='/')}"
    return "the update, by the optimizer"


def _loss_of(detector: TrainableDetector, loss_weights: LossWeights, seed: int) -> _LossOf:
    def loss_of(
        params: Any, stats: Any, batch: Batch, count: Array, part: Array | None
    ) -> tuple[Array, tuple[Any, Metrics, Outputs]]:
        key = jax.random.fold_in(jax.random.key(seed), count) if detector.random else None
        if key is not None and part is not None:
            key = jax.random.fold_in(key, part)
        outputs, stats = detector.apply(params, stats, batch.images, train=True, key=key)
        loss, metrics = objective(
            outputs, batch, detector.localization, detector.arch, loss_weights, assigner_of(detector)
        )
        return loss, (stats, metrics, outputs)

    return loss_of


def stabilizer_metrics(opt_state: Any) -> Metrics:
    """Return metrics of the stabilizers of a chain in the last update; empty if the chain has none."""
    kinds = (StabilizeState, CurvatureLimitState, UncertaintyLimitState)
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kinds))
    metrics: Metrics = {}
    for node in nodes:
        if isinstance(node, kinds):
            metrics |= {"step_scale": node.scale, "steps_limited": node.limited}
        if isinstance(node, StabilizeState | CurvatureLimitState):
            metrics |= {"step_curvature": node.curvature, "steps_uphill": node.uphill}
    return metrics


def jit_step(step: Step, mesh: Mesh, state: TrainState | NamedSharding | None = None) -> Step:
    """Compile a step for a mesh.

    The state is donated. Batches are split along `data`, and their images along `spatial`. Batch statistics and all
    means in the loss are global over the mesh.

    Args:
      step: Step from `make_step`.
      mesh: Mesh from `device_mesh`.
      state: Shardings of the state, from `state_sharding`. None keeps a full copy of the state on every device.
    """
    kept = replicated(mesh) if state is None else state
    return jax.jit(
        step, donate_argnums=0, in_shardings=(kept, batch_sharding(mesh)), out_shardings=(kept, replicated(mesh))
    )


class Program(NamedTuple):
    """Training step of an experiment for a mesh.

    Attributes:
      step: Jitted step.
      optimizer: Optax chain of the step, for `create_state`.
      shapes: Shapes of the state.
      shardings: Shardings of the state.
    """

    step: Step
    optimizer: optax.GradientTransformation
    shapes: TrainState
    shardings: TrainState


def build_program(experiment: Experiment, detector: TrainableDetector, mesh: Mesh, steps_per_epoch: int) -> Program:
    """Build the step that trains an experiment.

    Args:
      experiment: Experiment with the optimizer, the loss weights, the moving average and the sharding of the state.
      detector: Detector to train.
      mesh: Mesh from `device_mesh`. Its devices need not exist.
      steps_per_epoch: Number of steps of an epoch, for the schedule.
    """
    rate = experiment.optimizer.schedule.build(steps_per_epoch, experiment.epochs * steps_per_epoch)
    optimizer = experiment.optimizer.build(rate)
    shapes = jax.eval_shape(lambda: create_state(detector, optimizer, 0, experiment.freeze))
    shardings = state_sharding(shapes, mesh, experiment.parallel.shard)
    step = make_step(
        detector,
        optimizer,
        rate,
        experiment.loss_weights,
        experiment.ema,
        measure_every=experiment.log_every,
        seed=experiment.seed,
        accumulate=experiment.accumulate,
        freeze=experiment.freeze,
    )
    return Program(jit_step(step, mesh, shardings), optimizer, shapes, shardings)
