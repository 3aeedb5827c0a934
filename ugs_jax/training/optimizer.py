"""Optimizers as values: warm-up, cosine schedule, gradient clipping, weight decay on kernels only."""

from dataclasses import dataclass
from typing import Any

import jax
import optax


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine from the peak to `final` times the peak.

    Attributes:
      learning_rate: peak.
      warmup_epochs: length of the warm-up.
      final: last learning rate over peak.
    """

    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    final: float = 0.05

    def build(self, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
        """Learning rate by step."""
        warmup = min(round(self.warmup_epochs * steps_per_epoch), max(total_steps - 1, 0))
        return optax.warmup_cosine_decay_schedule(
            init_value=self.learning_rate / max(warmup, 1) if warmup else self.learning_rate,
            peak_value=self.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(total_steps, 1),
            end_value=self.learning_rate * self.final,
        )


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    Attributes:
      schedule: learning rate.
      b1: decay of the first moment.
      b2: decay of the second moment.
      weight_decay: on kernels; scales, biases and batch-norm parameters are not decayed.
      clip_norm: global norm that gradients are clipped to.
    """

    schedule: Schedule = Schedule()
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.02
    clip_norm: float = 10.0

    def build(self, learning_rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
        """The optax chain."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(learning_rate, self.b1, self.b2, weight_decay=self.weight_decay, mask=decayed),
        )


@dataclass(frozen=True)
class SGD:
    """Nesterov momentum with coupled weight decay, the optimizer of the published YOLOv5 recipe.

    Attributes:
      schedule: learning rate.
      momentum: of the velocity.
      weight_decay: on kernels, added to the gradient.
      clip_norm: global norm that gradients are clipped to.
    """

    schedule: Schedule = Schedule(learning_rate=0.01, warmup_epochs=3.0, final=0.01)
    momentum: float = 0.937
    weight_decay: float = 5e-4
    clip_norm: float = 10.0

    def build(self, learning_rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
        """The optax chain."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.add_decayed_weights(self.weight_decay, mask=decayed),
            optax.sgd(learning_rate, momentum=self.momentum, nesterov=True),
        )


def decayed(params: Any) -> Any:
    """Mask of the parameters that weight decay acts on: kernels, the arrays with more than one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
