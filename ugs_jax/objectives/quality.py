"""Quality predictor: a small network that predicts the IoU of a box from its predicted distributions.

The inputs are the four largest probabilities of each of the four box parameters and their mean, and the sides of the
box in cells. The network is trained on positives alone, so localization stays sparse. No gradient reaches the
distributions. At inference, the scores of the candidates are multiplied by a power of the predicted IoU before
suppression.

References:
  Li et al., Generalized Focal Loss V2, CVPR 2021 (distribution-guided quality predictor).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax.numerics import SIDE_FLOOR

_TOP = 4
EVIDENCE = 4 * (_TOP + 1) + 2
"""Number of inputs of the quality predictor."""


@dataclass(frozen=True)
class Quality:
    """Settings of the quality predictor.

    Attributes:
      hidden: Width of the hidden layer.
      weight: Weight of the loss, the binary cross entropy against the IoU of the decoded box.
    """

    hidden: int = 32
    weight: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"Quality.hidden: expected at least 1, got {self.hidden}")


class QualityLayer(NamedTuple):
    """Parameters of the quality predictor of one level.

    Attributes:
      kernel: Weights from the evidence to the hidden layer.
      bias: Bias of the hidden layer.
      out: Weights from the hidden layer to the logit of the IoU.
      out_bias: Bias of the logit.
    """

    kernel: Float[Array, "evidence hidden"]
    bias: Float[Array, "hidden"]
    out: Float[Array, "hidden"]
    out_bias: Float[Array, ""]


def quality_logit(
    layer: QualityLayer,
    probabilities: Float[Array, "*batch 4 bins"],
    boxes: Float[Array, "*batch 4"],
    *,
    stride: int,
) -> Float[Array, "*batch"]:
    """Return the logit of the predicted IoU. No gradient reaches distributions or boxes.

    Args:
      layer: Parameters of the level.
      probabilities: Distributions of the four box parameters.
      boxes: Decoded boxes, xyxy px.
      stride: Pixels per cell.
    """
    inputs = jax.lax.stop_gradient(evidence(probabilities, boxes, stride=stride))
    return jax.nn.silu(inputs @ layer.kernel + layer.bias) @ layer.out + layer.out_bias


def evidence(
    probabilities: Float[Array, "*batch 4 bins"], boxes: Float[Array, "*batch 4"], *, stride: int
) -> Float[Array, "*batch evidence"]:
    """Return the inputs of the quality predictor: top probabilities and their means, and log sides in cells."""
    count = min(_TOP, probabilities.shape[-1])
    top = jax.lax.top_k(probabilities, count)[0]
    top = jnp.pad(top, [(0, 0)] * (top.ndim - 1) + [(0, _TOP - count)])
    top = jnp.concatenate([top, jnp.mean(top, axis=-1, keepdims=True)], axis=-1)
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], SIDE_FLOOR) / stride
    return jnp.concatenate([top.reshape(*top.shape[:-2], -1), jnp.log(sides)], axis=-1)
