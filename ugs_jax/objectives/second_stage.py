"""Second localization stage: residual logits from the features at the box that the first stage predicts.

The input of the first stage is the feature vector of one cell. The second stage reads the map of the level at five
points of the first stage's box (its centre and the middles of its sides), together with the predicted distributions. It
adds a residual to their logits. Its last layer starts at zero, so training begins with the boxes of the first stage.
Both stages are trained with the same objective. Like the first stage, the second is computed only where boxes are
learned or detected.

References:
  Peng et al., D-FINE: Redefine BoxRegression Task in DETRs as Fine-grained DFL Refinement, ICLR 2025 (residual
  logits); Zhang et al., VarifocalNet, CVPR 2021 (features sampled at points of a box).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

POINTS = 5
"""Number of points of a box at which features are sampled: the centre and the middles of the four sides."""


@dataclass(frozen=True)
class SecondStage:
    """Settings of the second localization stage.

    Attributes:
      hidden: Width of the hidden layer.
      share: Share of the second stage in the localization loss, in (0, 1]; the rest belongs to the first stage.
    """

    hidden: int = 64
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"SecondStage.hidden: expected at least 1, got {self.hidden}")
        if not 0 < self.share <= 1:
            raise ValueError(f"SecondStage.share: expected a number in (0, 1], got {self.share}")


class SecondStageLayer(NamedTuple):
    """Parameters of the second stage of one level, for features of `c` channels and `k` localization outputs.

    Attributes:
      points: Weights from the features at the five points to the hidden layer.
      shape: Weights from the distributions of the first stage to the hidden layer.
      bias: Bias of the hidden layer.
      out: Weights from the hidden layer to the residual logits.
    """

    points: Float[Array, "5*c hidden"]
    shape: Float[Array, "k hidden"]
    bias: Float[Array, "hidden"]
    out: Float[Array, "hidden k"]


def residual_logits(
    layer: SecondStageLayer,
    features: Float[Array, "b h w c"],
    boxes: Float[Array, "b n 4"],
    probabilities: Float[Array, "b n 4 bins"],
    *,
    stride: int,
) -> Float[Array, "b n k"]:
    """Return the logits that the second stage adds to the raw outputs of the first stage.

    No gradient reaches boxes or distributions.

    Args:
      layer: Parameters of the level.
      features: Feature map of the level.
      boxes: Boxes of the first stage, xyxy px.
      probabilities: Distributions of the first stage.
      stride: Pixels per cell.
    """
    boxes, probabilities = jax.lax.stop_gradient((boxes, probabilities))
    sampled = sample(features, box_points(boxes), stride=stride)  # [b, n, 5, c]
    sampled = sampled.reshape(*sampled.shape[:2], -1)
    shape = probabilities.reshape(*probabilities.shape[:2], -1)
    wide = layer.bias.dtype
    hidden = jnp.matmul(sampled, layer.points.astype(sampled.dtype), preferred_element_type=wide)
    hidden = jax.nn.silu(hidden + shape.astype(wide) @ layer.shape + layer.bias)
    return hidden @ layer.out


def box_points(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 5 2"]:
    """Return the centre and the middles of the left, upper, right and lower side of boxes (xyxy), in their unit."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return jnp.stack([jnp.stack(point, axis=-1) for point in ((x, y), (x1, y), (x, y1), (x2, y), (x, y2))], axis=-2)


def sample(
    features: Float[Array, "b h w c"], points: Float[Array, "b n p 2"], *, stride: int
) -> Float[Array, "b n p c"]:
    """Return features at points (x, y) px, by bilinear interpolation between cell centres.

    Points beyond the map take the features of its border.

    Args:
      features: Feature map of one level.
      points: Positions, px of the network's input.
      stride: Pixels per cell.
    """
    b, h, w, c = features.shape
    flat = features.reshape(b, h * w, c)
    x = jnp.clip(points[..., 0] / stride - 0.5, 0, w - 1)
    y = jnp.clip(points[..., 1] / stride - 0.5, 0, h - 1)
    left, top = jnp.floor(x), jnp.floor(y)

    def corner(column: Array, row: Array, weight: Array) -> Array:
        index: Int[Array, "b n*p"] = (
            (jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)).astype(jnp.int32).reshape(b, -1)
        )
        taken = jnp.take_along_axis(flat, index[..., None], axis=1, mode="clip").reshape(*points.shape[:-1], c)
        return taken * weight[..., None].astype(features.dtype)

    right, low = x - left, y - top
    return (
        corner(left, top, (1 - right) * (1 - low))
        + corner(left + 1, top, right * (1 - low))
        + corner(left, top + 1, (1 - right) * low)
        + corner(left + 1, top + 1, right * low)
    )
