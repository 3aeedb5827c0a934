"""A detector does not know how it localizes: regression, distribution focal loss and UGS are interchangeable (`seam`).

An objective turns `num_outputs` raw numbers an anchor into a box, and these numbers and a target box into losses. Each
is a small immutable object that any detector can use; nothing here knows of networks or feature maps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.detectors.seam import Terms
from ugs_jax.detectors.settings import AnyGrid, FittedGrid, Grid, Refinement, Uncertainty
from ugs_jax.labels import expectation, variance
from ugs_jax.numerics import root, widen

BoxLoss = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Regression:
    """Four numbers a box, decoded as YOLOv5 does: centre (2σ−1)·unit from the anchor's, sides (2σ)²·anchor.

    Attributes:
      box_loss: from `losses`: of boxes (`ciou`, `giou`, `nwd`, …) or of offsets (`l1`, `smooth_l1`, `l2`).
      space: what `box_loss` compares: decoded `boxes` in px, or `offsets` as `boxes.encode` defines them.
    """

    box_loss: BoxLoss = losses.ciou
    space: Literal["boxes", "offsets"] = "boxes"

    def __post_init__(self) -> None:
        if self.space not in ("boxes", "offsets"):
            raise ValueError(f"Regression.space: expected 'boxes' or 'offsets', got {self.space!r}")

    @property
    def num_outputs(self) -> int:
        """Channels an anchor."""
        return 4

    @property
    def refinement(self) -> Refinement | None:
        """None: a regressed box carries no uncertainty to follow."""
        return None

    def decode(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Raw outputs to boxes, xyxy px."""
        gate = 2 * jax.nn.sigmoid(_split(raw, 1)[..., 0])
        center = anchors.center + (gate[..., :2] - 1) * anchors.unit
        half = jnp.square(gate[..., 2:]) * anchors.size / 2
        return jnp.concatenate([center - half, center + half], axis=-1)

    def deviation(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors) -> None:
        """None: four numbers say nothing of their spread."""

    def loss(self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Terms:
        """Raw outputs against target boxes (xyxy px), one value a positive."""
        decoded = self.decode(raw, anchors)
        if self.space == "boxes":
            loss = self.box_loss(decoded, targets)
        else:
            loss = self.box_loss(bx.encode(decoded, anchors), bx.encode(targets, anchors))
        return Terms(loss, {"regression": loss}, jnp.zeros_like(loss), decoded)

    def uncertainty_loss(
        self, raw: Float[Array, "*batch 4"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Float[Array, "*batch"]:
        """Zero."""
        return jnp.zeros(targets.shape[:-1])


@dataclass(frozen=True)
class Distribution:
    """Distribution focal loss: distances to the four sides as distributions over whole units from `start` on.

    Attributes:
      bins: support points; 17 in GFL, 16 in YOLOv8.
      start: first point, in units. Published heads start at 0, which cannot place a side on the far side of the cell's
        centre: for boxes smaller than a cell a negative start can.
      box_loss: added on the decoded box; GIoU in GFL, CIoU in YOLOv8.
      box_weight: weight of `box_loss`; YOLOv8 uses 7.5 against 1.5 for DFL, GFL 2 against ¼.
      dfl_weight: weight of the distribution focal loss (mean over the four sides).
    """

    bins: int = 16
    start: int = 0
    box_loss: BoxLoss = losses.ciou
    box_weight: float = 1.0
    dfl_weight: float = 0.2

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"Distribution.bins: expected at least 2 support points, got {self.bins}")

    @property
    def num_outputs(self) -> int:
        """Channels an anchor."""
        return 4 * self.bins

    @property
    def refinement(self) -> Refinement | None:
        """None: UR is part of UGS."""
        return None

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Raw outputs to boxes, xyxy px; sides that cross collapse to a point between them."""
        probabilities = jax.nn.softmax(_split(raw, self.bins))
        distance = expectation(probabilities, np.arange(self.bins, dtype=np.float64) + self.start)
        low = anchors.center - distance[..., :2] * anchors.unit
        high = anchors.center + distance[..., 2:] * anchors.unit
        middle = (low + high) / 2
        return jnp.concatenate([jnp.minimum(low, middle), jnp.maximum(high, middle)], axis=-1)

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Standard deviation of each side (x1, y1, x2, y2), px, as if sides could cross."""
        probabilities = jax.nn.softmax(_split(raw, self.bins))
        spread = root(variance(probabilities, np.arange(self.bins, dtype=np.float64)))
        return spread * jnp.concatenate([anchors.unit, anchors.unit], axis=-1)

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Raw outputs against target boxes (xyxy px), one value a positive."""
        logits, decoded = _split(raw, self.bins), self.decode(raw, anchors)
        (wide,) = widen(targets)
        sides = jnp.concatenate([anchors.center - wide[..., :2], wide[..., 2:] - anchors.center], axis=-1)
        distance = sides / jnp.concatenate([anchors.unit, anchors.unit], axis=-1) - self.start
        dfl = jnp.mean(losses.distribution_focal(logits, distance), axis=-1)
        regression = self.box_loss(decoded, wide)
        loss = self.box_weight * regression + self.dfl_weight * dfl
        return Terms(loss, {"regression": regression, "dfl": dfl}, _uncertainty(logits), decoded)

    def uncertainty_loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Float[Array, "*batch"]:
        """Zero: DFL does not minimise entropy."""
        return jnp.zeros(targets.shape[:-1])


@dataclass(frozen=True)
class Interval:
    """UGS: every box parameter as a distribution over an interval grid, trained with cross entropy.

    L = mean over the parameters (x, y, log w, log h) of L_CE + λ L_UM; the detector adds γ L_ur at perturbed features.

    Attributes:
      center: grid of the centre offsets, in units (strides for YOLO cells): `Grid`, `GridPoints` or `FittedGrid`.
      size: grid of the log size ratios; both grids have the same n.
      um: uncertainty minimisation, or None.
      refinement: uncertainty-guided refinement, or None. It follows the gradient of L_UM in the mode of `um`, of
        the plain entropy without `um`.
    """

    center: AnyGrid = field(default_factory=lambda: Grid(alpha=2.0, beta=1.0))
    size: AnyGrid = field(default_factory=lambda: Grid(alpha=2.0, beta=1.0))
    um: Uncertainty | None = field(default_factory=Uncertainty)
    refinement: Refinement | None = field(default_factory=Refinement)

    def __post_init__(self) -> None:
        if self.center.n != self.size.n:
            raise ValueError(
                f"Interval: expected center and size grids of the same n, got {self.center.n} and {self.size.n}"
            )
        for grid in (self.center, self.size):
            if not isinstance(grid, FittedGrid):
                grid.points()  # raises ValueError for settings out of range

    @property
    def to_be_fitted(self) -> bool:
        """Whether there is a `FittedGrid`, so that nothing can be decoded before `fit`."""
        return any(isinstance(grid, FittedGrid) for grid in (self.center, self.size))

    def fit(self, offsets: Float[np.ndarray, "n 4"]) -> "Interval":
        """The same with every `FittedGrid` fitted.

        Args:
          offsets: targets as `boxes.encode` gives them; those of x and y share a grid, and so do those of w and h.

        Raises:
          ValueError: targets that give no grid.
        """
        center, size = (
            grid.fit(offsets[:, axes]) if isinstance(grid, FittedGrid) else grid
            for grid, axes in ((self.center, slice(0, 2)), (self.size, slice(2, 4)))
        )
        return replace(self, center=center, size=size)

    @property
    def num_outputs(self) -> int:
        """Channels an anchor."""
        return 4 * (self.center.n + 1)

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Raw outputs to boxes, xyxy px: the expected offsets."""
        probabilities = jax.nn.softmax(self._logits(raw))
        center = expectation(probabilities[..., :2, :], self.center.points())
        size = expectation(probabilities[..., 2:, :], self.size.points())
        return bx.decode(jnp.concatenate([center, size], axis=-1), anchors)

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Standard deviation of each side (x1, y1, x2, y2), px.

        A side is a + u·X ± s/2·e^T for an anchor at a with unit u and side s. Centre X and log size T are predicted
        apart, thus independent: the variance is u²·Var X + s²/4·Var e^T, exact sums over the grids. It is the same for
        opposite sides. A label between two grid points is spread over both, so it is above 0 for a perfect prediction.
        """
        probabilities = jax.nn.softmax(self._logits(raw))
        center = variance(probabilities[..., :2, :], self.center.points())
        size = variance(probabilities[..., 2:, :], np.exp(self.size.points()))
        spread = root(jnp.square(anchors.unit) * center + jnp.square(anchors.size / 2) * size)
        return jnp.concatenate([spread, spread], axis=-1)

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Raw outputs against target boxes (xyxy px), one value a positive."""
        logits = self._logits(raw)
        cross_entropy = self._over_grids(losses.interval_cross_entropy, logits, bx.encode(targets, anchors))
        loss, parts = cross_entropy, {"cross_entropy": cross_entropy}
        if self.um is not None:
            parts["um"] = self.uncertainty_loss(raw, anchors, targets)
            loss = loss + self.um.weight * parts["um"]
        return Terms(loss, parts, _uncertainty(logits), self.decode(raw, anchors))

    def uncertainty_loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Float[Array, "*batch"]:
        """L_UM, mean over the four parameters, nats."""
        logits = self._logits(raw)
        if self.um is not None and self.um.mode == "match":
            return self._over_grids(losses.entropy_gap, logits, bx.encode(targets, anchors))
        return jnp.mean(losses.entropy(logits), axis=-1)

    def _logits(self, raw: Array) -> Array:
        return _split(raw, self.center.n + 1)

    def _over_grids(self, loss: Callable[[Array, Array, np.ndarray], Array], logits: Array, offsets: Array) -> Array:
        center = loss(logits[..., :2, :], offsets[..., :2], self.center.points())
        size = loss(logits[..., 2:, :], offsets[..., 2:], self.size.points())
        return (jnp.sum(center, axis=-1) + jnp.sum(size, axis=-1)) / 4


def _split(raw: Array, bins: int) -> Array:
    """[..., 4 · bins] → [..., 4, bins] in at least float32."""
    if raw.shape[-1] != 4 * bins:
        raise ValueError(f"raw outputs: expected 4 × {bins} channels on the last axis, got shape {raw.shape}")
    (wide,) = widen(raw)
    return wide.reshape(*raw.shape[:-1], 4, bins)


def _uncertainty(logits: Array) -> Array:
    return jnp.mean(losses.normalised_entropy(logits), axis=-1)
