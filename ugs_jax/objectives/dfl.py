"""Distribution focal loss: the distances to the four sides as distributions over whole units."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.labels import deviation, expectation, variance
from ugs_jax.numerics import root, widen
from ugs_jax.objectives.box_regression import BoxLoss
from ugs_jax.objectives.distribution import mean_uncertainty, split_logits
from ugs_jax.objectives.protocol import Terms
from ugs_jax.objectives.quality import Quality
from ugs_jax.objectives.second_stage import SecondStage
from ugs_jax.objectives.sides import SIDES, box_at, distances, in_px, layer_of_distances
from ugs_jax.objectives.start_layer import resampled_layer

_MARGIN = 0.01  # units by which targets stay below the last support point, as in YOLOv8


@dataclass(frozen=True)
class DFL:
    """Distribution focal loss: distances to the four sides as distributions over whole units from `start` on.

    L = `box_weight` · box loss + `dfl_weight` · L_DFL / ln(bins), so that each loss is about 1 for a random head.

    Attributes:
      bins: Number of support points; 17 in GFL, 16 in YOLOv8.
      start: First support point, in units. Published heads start at 0 and cannot place a side on the other side of the
        cell's centre. A negative start can, which helps for boxes smaller than a cell.
      box_loss: Loss on the decoded box; GIoU in GFL, CIoU in YOLOv8.
      box_weight: Weight of `box_loss`. YOLOv8 uses 7.5 for the box and 1.5 for DFL, GFL uses 2 and ¼.
      dfl_weight: Weight of the distribution focal loss, which is averaged over the four sides and divided by ln(bins).
      second_stage: Second localization stage, or None.
      quality: Quality predictor, or None.
    """

    bins: int = 16
    start: int = 0
    box_loss: BoxLoss = losses.ciou
    box_weight: float = 1.0
    dfl_weight: float = 0.5
    second_stage: SecondStage | None = None
    quality: Quality | None = None

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"DFL.bins: expected at least 2 support points, got {self.bins}")

    @property
    def num_outputs(self) -> int:
        """Number of channels for each anchor."""
        return 4 * self.bins

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        """Names of the box parameters: distances from the anchor's centre to the sides, in units."""
        return SIDES

    def contains(self, anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Bool[Array, "*batch 4"]:
        """Return the mask of the distances that lie within the support points. Others are clipped to the ends."""
        distance = distances(anchors, targets)
        return (distance >= self.points[0]) & (distance <= self.points[-1])

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""
        return f"DFL(bins={self.bins}, start={self.start})"

    @property
    def points(self) -> Float[np.ndarray, "bins"]:
        """Support points, in units."""
        return np.arange(self.bins, dtype=np.float64) + self.start

    def probabilities(self, raw: Float[Array, "*batch outputs"]) -> Float[Array, "*batch 4 bins"]:
        """Return the distributions of the distances to the left, upper, right and lower side."""
        return jax.nn.softmax(split_logits(raw, self.bins))

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes that raw outputs describe, xyxy px. Sides that cross collapse to the point between them."""
        expected = expectation(self.probabilities(raw), self.points)
        return box_at(expected, anchors)

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the standard deviation of each side (x1, y1, x2, y2), px, computed as if sides could cross."""
        return in_px(deviation(self.probabilities(raw), self.points), anchors)

    def spread(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the spread of each side (x1, y1, x2, y2), px, computed as if sides could cross."""
        return in_px(root(variance(self.probabilities(raw), self.points)), anchors)

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Return the terms of raw outputs against target boxes (xyxy px), one value for each positive."""
        logits, decoded = split_logits(raw, self.bins), self.decode(raw, anchors)
        distance = distances(anchors, targets) - self.start
        reachable = jnp.clip(distance, 0, self.bins - 1 - _MARGIN)
        dfl = jnp.mean(losses.distribution_focal(logits, reachable), axis=-1)
        regression = self.box_loss(decoded, *widen(targets))
        loss = self.box_weight * regression + self.dfl_weight / np.log(self.bins) * dfl
        return Terms(loss, {"regression": regression, "dfl": dfl}, mean_uncertainty(logits), decoded)

    def layer_from_regression(
        self,
        kernel: Float[np.ndarray, "c a 4"],
        bias: Float[np.ndarray, "a 4"],
        published_anchors: Float[np.ndarray, "a 2"],
        anchors: Float[np.ndarray, "a 2"],
        stride: int,
        width: Float[np.ndarray, "4"],
    ) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
        """Return kernel and bias of a layer that decodes like a regression layer; see `StartsFromRegression`."""
        return layer_of_distances(self.points, kernel, bias, published_anchors, stride, width)

    def layer_from_distribution(
        self,
        kernel: Float[np.ndarray, "c a published"],
        bias: Float[np.ndarray, "a published"],
        points: Float[np.ndarray, "k"],
    ) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
        """Return kernel and bias of a layer that decodes like another layer of DFL; see `StartsFromDistribution`."""
        return resampled_layer(kernel, bias, points, self.points)
