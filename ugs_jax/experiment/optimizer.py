"""Optimizers as immutable values: warm-up, cosine schedule, gradient clipping, weight decay on kernels only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import optax

from ugs_jax.stabilize import limit_by_uncertainty, ugs_stabilize


@runtime_checkable
class LearningRate(Protocol):
    """Settings of a learning-rate schedule. They do not depend on the length of the run. `Schedule` is ours."""

    def build(self, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
        """Return the learning rate as a function of the step.

        Args:
          steps_per_epoch: Number of steps in an epoch.
          total_steps: Number of steps of the whole run.
        """


@runtime_checkable
class Optimizer(Protocol):
    """Settings of an optimizer: a learning-rate schedule, and the optax chain that uses it."""

    @property
    def schedule(self) -> LearningRate:
        """Learning-rate schedule. The learning rate is also logged."""

    def build(self, learning_rate: optax.Schedule) -> optax.GradientTransformation:
        """Return the optax chain.

        The trainer passes `grad`, `value`, `value_fn` and `uncertainty` to transforms that take extra arguments.

        Args:
          learning_rate: Learning rate as a function of the step.
        """


@dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule: a linear warm-up, then a cosine decay from the peak to `final` times the peak.

    Attributes:
      learning_rate: Peak learning rate.
      warmup_epochs: Length of the warm-up, epochs.
      final: Last learning rate over the peak.
    """

    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    final: float = 0.05

    def build(self, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
        """Return the learning rate as a function of the step.

        Args:
          steps_per_epoch: Number of steps in an epoch.
          total_steps: Number of steps of the whole run.
        """
        warmup = min(round(self.warmup_epochs * steps_per_epoch), max(total_steps - 1, 0))
        return optax.warmup_cosine_decay_schedule(
            init_value=self.learning_rate / max(warmup, 1) if warmup else self.learning_rate,
            peak_value=self.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(total_steps, 1),
            end_value=self.learning_rate * self.final,
        )


@dataclass(frozen=True)
class Stabilize:
    """`ugs_stabilize` as the last transform of the optimizer chain. The trainer passes its extra arguments.

    Attributes:
      power: Power of the limit by the uncertainty of the positives. The uncertainty is their mean normalised entropy;
        it is 0 for objectives without uncertainty.
      every: Number of updates between two exact Hessian-vector products of the batch's loss, for the limit by
        curvature. Each product costs about two gradients. None turns this limit off.
      fraction: Constant c of the limit by curvature, in (0, 2).
    """

    power: float = 1.0
    every: int | None = None
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"Stabilize.every: expected at least 1 update or None, got {self.every}")
        if not 0 < self.fraction < 2:
            raise ValueError(f"Stabilize.fraction: expected a number in (0, 2), got {self.fraction}")
        if not self.power >= 0:
            raise ValueError(f"Stabilize.power: expected a number >= 0, got {self.power}")

    def build(self) -> optax.GradientTransformationExtraArgs:
        """Return the transform."""
        if self.every is None:
            return limit_by_uncertainty(self.power)
        return ugs_stabilize(self.fraction, self.power, every=self.every)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    Attributes:
      schedule: Learning-rate schedule.
      b1: Decay rate of the first moment.
      b2: Decay rate of the second moment.
      weight_decay: Weight decay of kernels. Scales, biases and batch-norm parameters are not decayed.
      clip_norm: Global norm that gradients are clipped to.
      stabilize: Transform that shortens harmful steps; None leaves all steps unchanged.
    """

    schedule: LearningRate = Schedule()
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.02
    clip_norm: float = 10.0
    stabilize: Stabilize | None = None

    def build(self, learning_rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
        """Return the optimizer chain.

        Args:
          learning_rate: Learning rate as a function of the step.
        """
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(learning_rate, self.b1, self.b2, weight_decay=self.weight_decay, mask=decayed),
            *_last(self.stabilize),
        )


@dataclass(frozen=True)
class SGD:
    """Nesterov momentum with coupled weight decay, the optimizer of the published YOLOv5 recipe.

    Attributes:
      schedule: Learning-rate schedule.
      momentum: Decay rate of the velocity.
      weight_decay: Weight decay of kernels, added to the gradient.
      clip_norm: Global norm that gradients are clipped to.
      stabilize: Transform that shortens harmful steps; None leaves all steps unchanged.
    """

    schedule: LearningRate = Schedule(learning_rate=0.01, warmup_epochs=3.0, final=0.01)
    momentum: float = 0.937
    weight_decay: float = 5e-4
    clip_norm: float = 10.0
    stabilize: Stabilize | None = None

    def build(self, learning_rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
        """Return the optimizer chain.

        Args:
          learning_rate: Learning rate as a function of the step.
        """
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.add_decayed_weights(self.weight_decay, mask=decayed),
            optax.sgd(learning_rate, momentum=self.momentum, nesterov=True),
            *_last(self.stabilize),
        )


@dataclass(frozen=True)
class OptaxChain:
    """Any optax transformation, made by a function of the learning rate.

    `OptaxChain(optax.lion)` trains with Lion. `OptaxChain(partial(optax.lion, weight_decay=0.1))` changes one of its
    settings. `OptaxChain(my_chain)` trains with your own chain, made by a function `my_chain(learning_rate)` in the
    config file.

    Attributes:
      chain: Function from the learning rate (an optax schedule) to an optax transformation.
      schedule: Learning-rate schedule.
    """

    chain: Callable[..., optax.GradientTransformation]
    schedule: LearningRate = Schedule()

    def build(self, learning_rate: optax.Schedule) -> optax.GradientTransformation:
        """Return the optax chain.

        Args:
          learning_rate: Learning rate as a function of the step.
        """
        return self.chain(learning_rate)


def _last(stabilize: Stabilize | None) -> list[optax.GradientTransformationExtraArgs]:
    return [] if stabilize is None else [stabilize.build()]


def decayed(params: Any) -> Any:
    """Return the mask of weight decay: True for parameters named `kernel`, False for all others."""
    return jax.tree_util.tree_map_with_path(lambda path, _: getattr(path[-1], "key", None) == "kernel", params)
