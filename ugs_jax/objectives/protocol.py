"""Protocols between a detector and a localization objective.

`Localization` is all that a detector needs. The other protocols are optional abilities. An objective has an ability if
it has the members of that protocol; the detector and the trainer then use it.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float

from ugs_jax import boxes as bx
from ugs_jax.objectives.quality import Quality
from ugs_jax.objectives.refinement import Refinement
from ugs_jax.objectives.second_stage import SecondStage


class Terms(NamedTuple):
    """Per-positive outputs of a localization objective, unreduced.

    Attributes:
      loss: Value to minimise.
      parts: Named terms for the log.
      uncertainty: Uncertainty of the prediction in [0, 1]; 0 for objectives that predict none.
      boxes: Decoded predictions, xyxy px.
    """

    loss: Float[Array, "*batch"]
    parts: dict[str, Array]
    uncertainty: Float[Array, "*batch"]
    boxes: Float[Array, "*batch 4"]


@runtime_checkable
class Localization(Protocol):
    """Localization objective: decodes the raw outputs of a head to boxes, and computes their training loss."""

    @property
    def num_outputs(self) -> int:
        """Number of channels for each anchor."""

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the boxes that raw outputs describe, xyxy px.

        Args:
          raw: Raw outputs of the head, [..., num_outputs].
          anchors: Anchor of every output, px.
        """

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Return the terms of raw outputs against target boxes (xyxy px), one value for each positive.

        Args:
          raw: Raw outputs of the head, [..., num_outputs].
          anchors: Anchor of every output, px.
          targets: Target boxes, xyxy, px.
        """


@runtime_checkable
class DescribesDecoding(Protocol):
    """Ability: say what raw outputs mean, so that a layer trained with other loss settings is known to fit.

    Objectives without it are described by their `repr`: a layer then fits the very same objective only.
    """

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""


@runtime_checkable
class PredictsDeviation(Protocol):
    """Ability to predict the standard deviation of each side, for box voting and for scores that depend on it.

    An objective that `PredictsSpread` has other numbers for the scores.
    """

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the standard deviation of each side (x1, y1, x2, y2), px.

        Args:
          raw: Raw outputs of the head, [..., num_outputs].
          anchors: Anchor of every output, px.
        """


@runtime_checkable
class PredictsSpread(Protocol):
    """Ability to predict how far the distributions of a box spread, for scores that depend on it."""

    def spread(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the spread of each side (x1, y1, x2, y2), px: its standard deviation under the distributions.

        Other than `PredictsDeviation.deviation`, it includes the spread of the labels, which is larger between grid
        points that lie far apart. So boxes that hardly fit their anchor have more spread. They are also less accurate,
        and scores profit from this (experiments/results/hit_uav_published.md).

        Args:
          raw: Raw outputs of the head, [..., num_outputs].
          anchors: Anchor of every output, px.
        """


@runtime_checkable
class GuidesRefinement(Localization, Protocol):
    """Ability to give the direction in which uncertainty-guided refinement (UR) perturbs features."""

    @property
    def refinement(self) -> Refinement | None:
        """Settings of UR, or None for training without it."""

    def uncertainty_loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Float[Array, "*batch"]:
        """Return L_UM, whose gradient UR follows.

        Args:
          raw: Raw outputs of the head, [..., num_outputs].
          anchors: Anchor of every output, px.
          targets: Target boxes, xyxy, px.
        """


@runtime_checkable
class FitsToTargets(Protocol):
    """Ability to be fitted to the training targets before a run begins, for example its label grids."""

    @property
    def to_be_fitted(self) -> bool:
        """True if `fit` must be called before anything can be decoded."""

    def fit(self, anchors: bx.Anchors, targets: Float[np.ndarray, "n 4"]) -> "Localization":
        """Return the fitted objective, given a sample of targets.

        Args:
          anchors: Anchor of every target, px.
          targets: Target boxes, xyxy, px.
        """


@runtime_checkable
class LimitsTargets(Protocol):
    """Ability to say which targets the support of the predicted distributions contains, for `ugs data check`."""

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        """Names of the four box parameters that are predicted."""

    def contains(self, anchors: bx.Anchors, targets: Float[Array, "*batch 4"]) -> Bool[Array, "*batch 4"]:
        """Return the mask of the parameters of target boxes that lie within their supports.

        Args:
          anchors: Anchor of every target, px.
          targets: Target boxes, xyxy, px.
        """


@runtime_checkable
class StartsAt(Protocol):
    """Ability to say with which raw outputs a fresh localization layer starts, before features change them."""

    @property
    def initial_output(self) -> float:
        """Bias of all outputs of a fresh layer. Objectives without this ability leave it to the network: about 0."""


@runtime_checkable
class StartsFromRegression(Protocol):
    """Ability to start the localization layer from a published layer that regresses four numbers for each box."""

    def layer_from_regression(
        self,
        kernel: Float[np.ndarray, "c a 4"],
        bias: Float[np.ndarray, "a 4"],
        published_anchors: Float[np.ndarray, "a 2"],
        anchors: Float[np.ndarray, "a 2"],
        stride: int,
        width: Float[np.ndarray, "4"],
    ) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
        """Return kernel and bias of a layer that decodes to about the boxes of the regression layer.

        Args:
          kernel: The published 1×1 layer from features to (x, y, w, h) of every anchor.
          bias: Bias of the published layer.
          published_anchors: Anchor sides (w, h) with which the published layer was trained, px.
          anchors: Anchor sides (w, h) of this detector, px.
          stride: Pixels per cell.
          width: Standard deviation of the predicted distributions of (x, y, log w, log h), with the centre in
            strides.
        """


@runtime_checkable
class StartsFromDistribution(Protocol):
    """Ability to start the localization layer from a published layer that predicts the distances to the four sides.

    Each distance is a distribution over a grid, as in DFL.
    """

    def layer_from_distribution(
        self,
        kernel: Float[np.ndarray, "c a published"],
        bias: Float[np.ndarray, "a published"],
        points: Float[np.ndarray, "k"],
    ) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
        """Return kernel and bias of a layer that decodes to about the boxes of the published layer.

        Args:
          kernel: The published 1×1 layer from features to the logits of every anchor, 4 · k of them.
          bias: Bias of the published layer.
          points: Grid of the published distances, in strides.
        """


@runtime_checkable
class PredictsDistribution(Localization, Protocol):
    """Ability to predict a distribution for each box parameter, for a second stage and a learned quality."""

    @property
    def second_stage(self) -> SecondStage | None:
        """Settings of the second localization stage, or None."""

    @property
    def quality(self) -> Quality | None:
        """Settings of the quality predictor, or None."""

    def probabilities(self, raw: Float[Array, "*batch outputs"]) -> Float[Array, "*batch 4 bins"]:
        """Return the predicted distributions of the four box parameters."""
