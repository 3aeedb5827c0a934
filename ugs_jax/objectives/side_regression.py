"""Regression of the distances to the four sides, for detectors without anchors."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.numerics import widen
from ugs_jax.objectives.box_regression import BoxLoss
from ugs_jax.objectives.distribution import split_logits
from ugs_jax.objectives.protocol import Terms
from ugs_jax.objectives.sides import box_at


@dataclass(frozen=True)
class SideRegression:
    """Distances from the anchor's centre to the left, upper, right and lower side, in units, trained with a box loss.

    The outputs are the distances, as in YOLO26. They may be negative. The anchor's sides are not used.

    Attributes:
      box_loss: Loss on the decoded box: `ciou`, `giou`, `nwd`, … from `losses`, or yours.
    """

    box_loss: BoxLoss = losses.ciou

    @property
    def num_outputs(self) -> int:
        """Number of channels for each anchor."""
        return 4

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""
        return "SideRegression()"

    @property
    def initial_output(self) -> float:
        """Bias of a fresh layer: 1, a box of two units whose centre is the anchor's. At 0 boxes would have no area."""
        return 1.0

    def decode(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes that raw outputs describe, xyxy px. Sides that cross collapse to the point between them."""
        return box_at(split_logits(raw, 1)[..., 0], anchors)

    def loss(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Terms:
        """Return the box loss of raw outputs against target boxes (xyxy px), one value for each positive."""
        decoded = self.decode(raw, anchors)
        loss = self.box_loss(decoded, *widen(targets))
        return Terms(loss, {"regression": loss}, jnp.zeros_like(loss), decoded)
