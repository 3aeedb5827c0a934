"""The seam between the trainer and a detector, ours or yours.

`DetectorConfig` is what an experiment holds: settings that build a `TrainableDetector` once classes and anchors are
known. A trainable detector is a few pure functions. Its outputs are maps with scores and features for every level of a
feature pyramid, and the layers that localize from them, so that assignment, losses and any localization objective are
shared by all detectors.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, UInt8

from ugs_jax.detectors.architecture import AnchorSizes, HasPyramid, Level, Localizer
from ugs_jax.detectors.decode import Detections, Postprocess
from ugs_jax.objectives import Localization

Tree = dict[str, Any]
"""Parameters or batch statistics: nested dictionaries of arrays."""
Images = UInt8[Array | np.ndarray, "b h w 3"]
"""Images, 0 to 255."""


class Outputs(NamedTuple):
    """Outputs of a detector.

    Attributes:
      levels: Maps of every level, finest first.
      localizers: Layers that localize at every level.
    """

    levels: tuple[Level, ...]
    localizers: tuple[Localizer, ...]


@runtime_checkable
class TrainableDetector(Protocol):
    """A detector as pure functions of its parameters, which the trainer holds."""

    @property
    def arch(self) -> HasPyramid:
        """Anchors and strides of the levels."""

    @property
    def localization(self) -> Localization:
        """Localization objective."""

    @property
    def random(self) -> bool:
        """True if training is random; `apply` then takes a key."""

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Return fresh parameters and batch statistics, which may be empty."""

    def apply(
        self, params: Tree, stats: Tree, images: Images, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, Tree]:
        """Return the outputs for images, and new batch statistics: in training updated ones, else the same."""

    def detect(self, params: Tree, stats: Tree, images: Images, options: Postprocess) -> Detections:
        """Return detections in px of the images; `detectors.detect` makes them from outputs."""


@runtime_checkable
class RunsHeads(Protocol):
    """Ability: run the heads alone, by which the log shows how hard each part of the loss pulls at the features."""

    def apply_heads(self, params: Tree, stats: Tree, features: tuple[Array, ...]) -> Outputs:
        """Return outputs from the features of every level, finest first."""


@runtime_checkable
class StartsFromWeights(Protocol):
    """Ability: name a file of YOLOv5 weights that a fresh run starts from."""

    @property
    def weights(self) -> str | None:
        """File of weights, or None."""


@runtime_checkable
class DetectorConfig(Protocol):
    """Settings of a detector; a dataclass, so that a run folder can save it."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of every level, finest first."""

    def fit_anchors(self, sizes: Float[np.ndarray, "n 2"], *, anchor_ratio_threshold: float, seed: int) -> AnchorSizes:
        """Return anchors for the boxes of a data set, or those of the settings.

        Args:
          sizes: Box sides (w, h), px of the network's input.
          anchor_ratio_threshold: Side ratio up to which an anchor may learn a box.
          seed: Seed of the experiment.
        """

    def build(self, classes: int, anchors: AnchorSizes, localization: Localization) -> TrainableDetector:
        """Return the detector.

        Args:
          classes: Number of classes.
          anchors: Anchors from `fit_anchors`.
          localization: Localization objective, fitted.
        """
