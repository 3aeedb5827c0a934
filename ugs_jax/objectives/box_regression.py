"""Box regression: four numbers a box, trained with any box loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.objectives.distribution import split_logits
from ugs_jax.objectives.protocol import Terms

BoxLoss = Callable[[Array, Array], Array]
"""Function from predicted and target boxes [..., 4] to a loss for each box [...]: of `losses`, or yours.

`functools.partial` sets its hyperparameters: `partial(losses.nwd, constant=20.0)`.
"""


@dataclass(frozen=True)
class BoxRegression:
    """Four numbers a box, decoded as YOLOv5 does: centre (2σ−1)·unit from the anchor's, sides (2σ)²·anchor.

    Attributes:
      box_loss: Loss from `losses`: of boxes (`ciou`, `giou`, `nwd`, …) or of offsets (`l1`, `smooth_l1`, `l2`).
      space: Space in which `box_loss` compares: decoded `boxes` in px, or `offsets` as `boxes.encode` defines them.
    """

    box_loss: BoxLoss = losses.ciou
    space: Literal["boxes", "offsets"] = "boxes"

    def __post_init__(self) -> None:
        if self.space not in ("boxes", "offsets"):
            raise ValueError(f"BoxRegression.space: expected 'boxes' or 'offsets', got {self.space!r}")

    @property
    def num_outputs(self) -> int:
        """Channels for each anchor."""
        return 4

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""
        return "BoxRegression()"

    def decode(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes of raw outputs, xyxy px."""
        gate = 2 * jax.nn.sigmoid(split_logits(raw, 1)[..., 0])
        center = anchors.center + (gate[..., :2] - 1) * anchors.unit
        half = jnp.square(gate[..., 2:]) * anchors.size / 2
        return jnp.concatenate([center - half, center + half], axis=-1)

    def loss(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Terms:
        """Return the box loss of raw outputs against target boxes (xyxy px), one value for each positive."""
        decoded = self.decode(raw, anchors)
        if self.space == "boxes":
            loss = self.box_loss(decoded, targets)
        else:
            loss = self.box_loss(bx.encode(decoded, anchors), bx.encode(targets, anchors))
        return Terms(loss, {"regression": loss}, jnp.zeros_like(loss), decoded)
