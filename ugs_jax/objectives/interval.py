"""Training of distributions over label grids, shared by the objectives of the UGS family."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.labels import expectation
from ugs_jax.objectives.box_regression import BoxLoss
from ugs_jax.objectives.distribution import mean_uncertainty, split_logits
from ugs_jax.objectives.grids import AnyGrid, FittedGrid
from ugs_jax.objectives.protocol import Terms
from ugs_jax.objectives.quality import Quality
from ugs_jax.objectives.refinement import Refinement
from ugs_jax.objectives.second_stage import SecondStage


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


@dataclass(frozen=True, kw_only=True)
class IntervalObjective(ABC):
    """Base of objectives that predict each of four box parameters as a distribution over a label grid.

    A subclass defines the parameters: their names and grids, their values for a target, and the box that they describe.
    The loss is that of `UGS`, whose docstring describes the attributes.
    """

    um: Uncertainty | None = field(default_factory=Uncertainty)
    refinement: Refinement | None = field(default_factory=Refinement)
    weight: float = 0.1
    box_loss: BoxLoss = losses.ciou
    box_weight: float = 0.9
    second_stage: SecondStage | None = None
    quality: Quality | None = None

    def __post_init__(self) -> None:
        for grid in self._grids:
            if not isinstance(grid, FittedGrid):
                grid.points()  # raises ValueError for settings out of range
        if not (self.weight >= 0 and self.box_weight >= 0 and self.weight + self.box_weight > 0):
            raise ValueError(
                f"{type(self).__name__}: expected weights >= 0, one of them above 0, got weight={self.weight}, "
                f"box_weight={self.box_weight}"
            )

    @property
    @abstractmethod
    def _grids(self) -> tuple[AnyGrid, AnyGrid, AnyGrid, AnyGrid]:
        """Grid of each parameter. All have the same n."""

    @abstractmethod
    def _targets(self, anchors: bx.Anchors, boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
        """Return the parameters of boxes (xyxy px), in the units of the grids."""

    @abstractmethod
    def _boxes(self, parameters: Float[Array, "*batch 4"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes of parameters, xyxy px."""

    @property
    def to_be_fitted(self) -> bool:
        """True if a grid is a `FittedGrid`, so that nothing can be decoded before `fit`."""
        return any(isinstance(grid, FittedGrid) for grid in self._grids)

    @property
    def num_outputs(self) -> int:
        """Number of channels for each anchor."""
        return 4 * self._bins

    def contains(self, anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Bool[Array, "*batch 4"]:
        """Return the mask of the parameters within the range of their grid. Others are clipped to its ends."""
        low, high = self._points[:, 0].astype(np.float32), self._points[:, -1].astype(np.float32)
        parameters = self._targets(anchors, targets)
        return (parameters >= low) & (parameters <= high)

    def probabilities(self, raw: Float[Array, "*batch outputs"]) -> Float[Array, "*batch 4 bins"]:
        """Return the distributions of the four parameters over their grids."""
        return jax.nn.softmax(self._logits(raw))

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes of the expected parameters, xyxy px."""
        return self._boxes(self._of_distributions(expectation, raw), anchors)

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Return the terms of raw outputs against target boxes (xyxy px), one value for each positive."""
        logits, decoded = self._logits(raw), self.decode(raw, anchors)
        cross_entropy = self._mean(losses.interval_cross_entropy, logits, self._targets(anchors, targets))
        loss, parts = cross_entropy, {"cross_entropy": cross_entropy}
        if self.um is not None:
            parts["um"] = self.uncertainty_loss(raw, anchors, targets)
            loss = loss + self.um.weight * parts["um"]
        loss = self.weight / math.log(self._bins) * loss
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
            return self._mean(losses.entropy_gap, logits, self._targets(anchors, targets))
        return jnp.mean(losses.entropy(logits), axis=-1)

    @property
    def _bins(self) -> int:
        return self._grids[0].n + 1

    @property
    def _points(self) -> Float[np.ndarray, "4 bins"]:
        return np.stack([grid.points() for grid in self._grids])

    def _logits(self, raw: Array) -> Array:
        return split_logits(raw, self._bins)

    def _of_distributions(self, statistic: Callable[[Array, Array], Array], raw: Array) -> Array:
        """Return a statistic of the distribution of each parameter over its grid, [..., 4]."""
        return jax.vmap(statistic, in_axes=(-2, 0), out_axes=-1)(self.probabilities(raw), jnp.asarray(self._points))

    def _mean(self, loss: Callable[[Array, Array, Array], Array], logits: Array, parameters: Array) -> Array:
        each = jax.vmap(loss, in_axes=(-2, -1, 0), out_axes=-1)
        return jnp.mean(each(logits, parameters, jnp.asarray(self._points)), axis=-1)
