"""UGS: every box parameter as a distribution over an interval grid."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.labels import expectation, variance
from ugs_jax.numerics import root
from ugs_jax.objectives.box_regression import BoxLoss
from ugs_jax.objectives.distribution import mean_uncertainty, split_logits
from ugs_jax.objectives.grids import AnyGrid, FittedGrid, Grid
from ugs_jax.objectives.protocol import Terms
from ugs_jax.objectives.quality import Quality
from ugs_jax.objectives.refinement import Refinement
from ugs_jax.objectives.second_stage import SecondStage
from ugs_jax.objectives.start_layer import Expected, layer_with_means, standard_outputs


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty minimisation (UM): `match` the entropy of the prediction to the label's, or minimise the `entropy`.

    The paper minimises the entropy with λ = 0.5; its first version on arXiv matched it. At the minimum of the cross
    entropy, the prediction has the entropy of the label, which is above 0 for targets between grid points. `entropy`
    pulls away from this minimum, `match` does not.

    Attributes:
      mode: Loss that is added: `entropy` or `match`.
      weight: Weight λ of the loss.
    """

    mode: Literal["entropy", "match"] = "match"
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.mode not in ("entropy", "match"):
            raise ValueError(f"Uncertainty.mode: expected 'entropy' or 'match', got {self.mode!r}")


@dataclass(frozen=True)
class UGS:
    """UGS: every box parameter as a distribution over an interval grid, trained with cross entropy.

    L = `weight` · (L_CE + λ L_UM) / ln(n+1) + `box_weight` · box loss, with means over the parameters (x, y, log w,
    log h). Divided by the log of the number of grid points, the cross entropy of a uniform prediction is 1 on any grid.
    The box loss is about 1 for boxes that miss. The detector adds γ times this loss at perturbed features (UR).

    Attributes:
      center: Grid of the centre offsets, in units (strides for YOLO cells): `Grid`, `GridPoints` or `FittedGrid`.
      size: Grid of the log size ratios; both grids have the same n.
      um: Uncertainty minimisation, or None.
      refinement: Uncertainty-guided refinement, or None. It follows the gradient of L_UM in the mode of `um`, or of
        the entropy if `um` is None.
      weight: Weight of cross entropy and UM.
      box_loss: Loss on the decoded box, which the cross entropy alone does not determine closely.
      box_weight: Weight of `box_loss`; 0 leaves it out, as in the paper.
      second_stage: Second localization stage, or None.
      quality: Quality predictor, or None.
      center_unit: Unit of the centre offsets: the `unit` of the anchors (strides for YOLO cells), or the sides of the
        `anchor`. With sides, the offsets of small objects cover as much of the grid as those of large objects.
    """

    center: AnyGrid = field(default_factory=lambda: Grid(alpha=2.0, beta=1.0))
    size: AnyGrid = field(default_factory=lambda: Grid(alpha=2.0, beta=1.0))
    um: Uncertainty | None = field(default_factory=Uncertainty)
    refinement: Refinement | None = field(default_factory=Refinement)
    weight: float = 0.5
    box_loss: BoxLoss = losses.ciou
    box_weight: float = 0.5
    second_stage: SecondStage | None = None
    quality: Quality | None = None
    center_unit: Literal["unit", "anchor"] = "unit"

    def __post_init__(self) -> None:
        if self.center.n != self.size.n:
            raise ValueError(
                f"UGS: expected center and size grids of the same n, got {self.center.n} and {self.size.n}"
            )
        for grid in (self.center, self.size):
            if not isinstance(grid, FittedGrid):
                grid.points()  # raises ValueError for settings out of range
        if self.center_unit not in ("unit", "anchor"):
            raise ValueError(f"UGS.center_unit: expected 'unit' or 'anchor', got {self.center_unit!r}")
        if not (self.weight >= 0 and self.box_weight >= 0 and self.weight + self.box_weight > 0):
            raise ValueError(
                f"UGS: expected weights >= 0, one of them above 0, got weight={self.weight}, "
                f"box_weight={self.box_weight}"
            )

    @classmethod
    def as_printed(cls) -> "UGS":
        """Return UGS as printed in the paper: L_CE + 0.5 · entropy + 0.1 · L_ur in nats, without a loss on the box."""
        grid = Grid(alpha=2.0, beta=1.0)
        return cls(grid, grid, um=Uncertainty("entropy"), weight=math.log(grid.n + 1), box_weight=0.0)

    @property
    def to_be_fitted(self) -> bool:
        """True if a grid is a `FittedGrid`, so that nothing can be decoded before `fit`."""
        return any(isinstance(grid, FittedGrid) for grid in (self.center, self.size))

    def fit(self, offsets: Float[np.ndarray, "n 4"]) -> "UGS":
        """Return the same objective with every `FittedGrid` fitted.

        Args:
          offsets: Targets as `boxes.encode` returns them. Those of x and y share a grid, and those of w and h do too.

        Raises:
          ValueError: The targets do not define a grid.
        """
        center, size = (
            grid.fit(offsets[:, axes]) if isinstance(grid, FittedGrid) else grid
            for grid, axes in ((self.center, slice(0, 2)), (self.size, slice(2, 4)))
        )
        return replace(self, center=center, size=size)

    @property
    def num_outputs(self) -> int:
        """Number of channels for each anchor."""
        return 4 * (self.center.n + 1)

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        """Names of the box parameters: offsets of the centre, and logarithms of the side ratios."""
        return "x", "y", "log w", "log h"

    def contains(self, anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Bool[Array, "*batch 4"]:
        """Return the mask of the offsets that lie within the range of their grid. Others are clipped to its ends."""
        points = [self.center.points()] * 2 + [self.size.points()] * 2
        low, high = (np.array([grid[end] for grid in points], np.float32) for end in (0, -1))
        offsets = bx.encode(targets, self._scaled(anchors))
        return (offsets >= low) & (offsets <= high)

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""
        return f"UGS(center={self.center}, size={self.size})"

    def probabilities(self, raw: Float[Array, "*batch outputs"]) -> Float[Array, "*batch 4 bins"]:
        """Return the distributions of x, y, log w and log h over their grids."""
        return jax.nn.softmax(self._logits(raw))

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes of the expected offsets, xyxy px."""
        probabilities = self.probabilities(raw)
        center = expectation(probabilities[..., :2, :], self.center.points())
        size = expectation(probabilities[..., 2:, :], self.size.points())
        return bx.decode(jnp.concatenate([center, size], axis=-1), self._scaled(anchors))

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the standard deviation of each side (x1, y1, x2, y2), px.

        A side is a + u·X ± s/2·e^T for an anchor at a with unit u and side s. Centre X and log size T are predicted
        separately and thus independent. The variance is u²·Var X + s²/4·Var e^T, with exact sums over the grids. It is
        the same for opposite sides. A label between two grid points is spread over both, so the variance is above 0
        even for a perfect prediction.
        """
        probabilities = self.probabilities(raw)
        center = variance(probabilities[..., :2, :], self.center.points())
        size = variance(probabilities[..., 2:, :], np.exp(self.size.points()))
        spread = root(jnp.square(self._scaled(anchors).unit) * center + jnp.square(anchors.size / 2) * size)
        return jnp.concatenate([spread, spread], axis=-1)

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Return the terms of raw outputs against target boxes (xyxy px), one value for each positive."""
        logits, decoded = self._logits(raw), self.decode(raw, anchors)
        offsets = bx.encode(targets, self._scaled(anchors))
        cross_entropy = self._over_grids(losses.interval_cross_entropy, logits, offsets)
        loss, parts = cross_entropy, {"cross_entropy": cross_entropy}
        if self.um is not None:
            parts["um"] = self.uncertainty_loss(raw, anchors, targets)
            loss = loss + self.um.weight * parts["um"]
        loss = self.weight / math.log(self.center.n + 1) * loss
        if self.box_weight:
            parts["regression"] = self.box_loss(decoded, targets)
            loss = loss + self.box_weight * parts["regression"]
        return Terms(loss, parts, mean_uncertainty(logits), decoded)

    def uncertainty_loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Float[Array, "*batch"]:
        """Return L_UM, the mean over the four parameters, in nats."""
        logits = self._logits(raw)
        if self.um is not None and self.um.mode == "match":
            return self._over_grids(losses.entropy_gap, logits, bx.encode(targets, self._scaled(anchors)))
        return jnp.mean(losses.entropy(logits), axis=-1)

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
        nodes, weights = standard_outputs()
        gate = 2 / (1 + np.exp(-nodes))

        def expected(parameter: int, a: int) -> Expected:
            if parameter < 2:
                points, unit = (
                    self.center.points(),
                    1.0 if self.center_unit == "unit" else anchors[a, parameter] / stride,
                )
                means = (gate - 1) / unit
            else:
                points, unit = self.size.points(), 1.0
                means = 2 * np.log(gate) + np.log(published_anchors[a, parameter - 2] / anchors[a, parameter - 2])
            return Expected(points, float(width[parameter] / unit), (parameter,), nodes[:, None], weights, means)

        return layer_with_means(kernel, bias, expected)

    def _scaled(self, anchors: bx.Anchors) -> bx.Anchors:
        return anchors if self.center_unit == "unit" else anchors._replace(unit=anchors.size)

    def _logits(self, raw: Array) -> Array:
        return split_logits(raw, self.center.n + 1)

    def _over_grids(self, loss: Callable[[Array, Array, np.ndarray], Array], logits: Array, offsets: Array) -> Array:
        center = loss(logits[..., :2, :], offsets[..., :2], self.center.points())
        size = loss(logits[..., 2:, :], offsets[..., 2:], self.size.points())
        return (jnp.sum(center, axis=-1) + jnp.sum(size, axis=-1)) / 4
