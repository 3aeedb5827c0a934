"""UGS: every box parameter as a distribution over an interval grid."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax.labels import deviation, expectation, variance
from ugs_jax.numerics import root
from ugs_jax.objectives.grids import AnyGrid, FittedGrid, Grid
from ugs_jax.objectives.interval import IntervalObjective, Uncertainty
from ugs_jax.objectives.start_layer import Expected, layer_with_means, standard_outputs


@dataclass(frozen=True)
class UGS(IntervalObjective):
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
    center_unit: Literal["unit", "anchor"] = "unit"

    def __post_init__(self) -> None:
        if self.center.n != self.size.n:
            raise ValueError(
                f"UGS: expected center and size grids of the same n, got {self.center.n} and {self.size.n}"
            )
        if self.center_unit not in ("unit", "anchor"):
            raise ValueError(f"UGS.center_unit: expected 'unit' or 'anchor', got {self.center_unit!r}")
        super().__post_init__()

    @classmethod
    def as_printed(cls) -> "UGS":
        """Return UGS as printed in the paper: L_CE + 0.5 · entropy + 0.1 · L_ur in nats, without a loss on the box."""
        grid = Grid(alpha=2.0, beta=1.0)
        return cls(grid, grid, um=Uncertainty("entropy"), weight=math.log(grid.n + 1), box_weight=0.0)

    def fit(self, anchors: bx.Anchors, targets: Float[np.ndarray, "n 4"]) -> "UGS":
        """Return the same objective with every `FittedGrid` fitted. x and y share a grid, and w and h do too.

        Args:
          anchors: Anchor of every target, px.
          targets: Sample of target boxes, xyxy px.

        Raises:
          ValueError: The targets do not define a grid.
        """
        offsets = np.asarray(self._targets(anchors, jnp.asarray(targets)))
        center, size = (
            grid.fit(offsets[:, axes]) if isinstance(grid, FittedGrid) else grid
            for grid, axes in ((self.center, slice(0, 2)), (self.size, slice(2, 4)))
        )
        return replace(self, center=center, size=size)

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        """Names of the box parameters: offsets of the centre, and logarithms of the side ratios."""
        return "x", "y", "log w", "log h"

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""
        return f"UGS(center={self.center}, size={self.size})"

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the standard deviation of each side (x1, y1, x2, y2), px.

        A side is a + u·X ± s/2·e^T for an anchor at a with unit u and side s. Centre X and log size T are predicted
        separately and thus independent. With σ from `labels.deviation`, the variance is (u·σ_X)² + (s/2·e^T·σ_T)², to
        first order in σ_T. It is the same for opposite sides.
        """
        mean, sigma = self._of_distributions(expectation, raw), self._of_distributions(deviation, raw)
        shift = self._scaled(anchors).unit * sigma[..., :2]
        growth = anchors.size / 2 * jnp.exp(mean[..., 2:]) * sigma[..., 2:]
        spread = root(jnp.square(shift) + jnp.square(growth))
        return jnp.concatenate([spread, spread], axis=-1)

    def spread(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the spread of each side (x1, y1, x2, y2), px.

        Its square is u²·Var X + s²/4·Var e^T, with exact sums over the grids, for a side as in `deviation`. It is the
        same for opposite sides.
        """
        probabilities, center, size = self.probabilities(raw), self.center.points(), np.exp(self.size.points())
        shift = jnp.square(self._scaled(anchors).unit) * variance(probabilities[..., :2, :], center)
        growth = jnp.square(anchors.size / 2) * variance(probabilities[..., 2:, :], size)
        spread = root(shift + growth)
        return jnp.concatenate([spread, spread], axis=-1)

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

    @property
    def _grids(self) -> tuple[AnyGrid, AnyGrid, AnyGrid, AnyGrid]:
        return self.center, self.center, self.size, self.size

    def _targets(self, anchors: bx.Anchors, boxes: Array) -> Array:
        return bx.encode(boxes, self._scaled(anchors))

    def _boxes(self, parameters: Array, anchors: bx.Anchors) -> Array:
        return bx.decode(parameters, self._scaled(anchors))

    def _scaled(self, anchors: bx.Anchors) -> bx.Anchors:
        return anchors if self.center_unit == "unit" else anchors._replace(unit=anchors.size)
