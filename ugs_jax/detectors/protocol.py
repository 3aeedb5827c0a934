"""Interface between the trainer and a detector, ours or yours.

An experiment holds a `DetectorConfig`: settings that build a `TrainableDetector` once classes and anchors are known. A
trainable detector consists of a few pure functions. Its outputs are maps with scores and features for every level of a
feature pyramid, and the layers that localize from these features. All detectors therefore share assignment, losses and
localization objectives.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, UInt8

from ugs_jax.detectors.assigner import Assigner
from ugs_jax.detectors.decode import Detections, Postprocess
from ugs_jax.detectors.levels import AnchorSizes, HasPyramid, Level, Localizer
from ugs_jax.objectives import Localization

Tree = dict[str, Any]
"""Parameters or batch statistics: nested dictionaries of arrays."""
Images = UInt8[Array | np.ndarray, "b h w 3"]
"""Images, 0 to 255."""


class Outputs(NamedTuple):
    """Outputs of a detector.

    Attributes:
      levels: Maps of every level, finest first.
      localizers: Localization layers of every level, finest first.
    """

    levels: tuple[Level, ...]
    localizers: tuple[Localizer, ...]


@runtime_checkable
class TrainableDetector(Protocol):
    """A detector as pure functions of its parameters. The trainer holds the parameters."""

    @property
    def arch(self) -> HasPyramid:
        """Anchors and strides of the levels."""

    @property
    def localization(self) -> Localization:
        """Localization objective."""

    @property
    def random(self) -> bool:
        """True if training is random. The trainer then passes a key to `apply`."""

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Return initial parameters and batch statistics. The batch statistics may be empty."""

    def apply(
        self, params: Tree, stats: Tree, images: Images, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, Tree]:
        """Return the outputs for images, and the batch statistics, which are updated in training only.

        Args:
          params: Parameters, as `init` returns them.
          stats: Batch statistics, as `init` returns them.
          images: Images with values 0…255, [b, h, w, 3].
          train: Normalise by the statistics of the batch instead of the running ones.
          key: Key of the units that are dropped at random in training. Without a key nothing is dropped.
        """

    def detect(self, params: Tree, stats: Tree, images: Images, options: Postprocess) -> Detections:
        """Return detections in px of the images. `detectors.detect` makes detections from outputs.

        Args:
          params: Parameters, as `init` returns them.
          stats: Batch statistics, as `init` returns them.
          images: Images with values 0…255, [b, h, w, 3].
          options: Postprocessing of the detections.
        """


@runtime_checkable
class RunsHeads(Protocol):
    """Ability to run the heads alone. The log then shows the gradient norm of each loss term at the features."""

    def apply_heads(self, params: Tree, stats: Tree, features: tuple[Array, ...]) -> Outputs:
        """Return the outputs for the features of every level, finest first.

        Args:
          params: Parameters, as `init` returns them.
          stats: Batch statistics, as `init` returns them.
          features: Features of every level, finest first, [b, h, w, c].
        """


@runtime_checkable
class FixesStatistics(Protocol):
    """Ability to fix batch statistics. Layers with batch statistics can then be frozen."""

    def with_fixed_statistics(self, paths: frozenset[str]) -> TrainableDetector:
        """Return the detector, which normalises by running statistics at these paths in training, too.

        Args:
          paths: Paths of batch statistics, such as `backbone/stem/norm/mean`. `apply` returns them unchanged.
        """


@runtime_checkable
class ChoosesCells(Protocol):
    """Ability to name the rule by which boxes choose cells, for a detector without objectness."""

    @property
    def assigner(self) -> Assigner:
        """Rule by which boxes choose cells."""


@runtime_checkable
class StartsFromWeights(Protocol):
    """Ability to name a file of weights that a new run starts from."""

    @property
    def weights(self) -> str | None:
        """File of weights, or None for random initial weights."""


@runtime_checkable
class DetectorConfig(Protocol):
    """Settings of a detector. The class must be a dataclass, so that a run folder can save it."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of every level, finest first."""

    def fit_anchors(self, sizes: Float[np.ndarray, "n 2"], *, anchor_ratio_threshold: float, seed: int) -> AnchorSizes:
        """Return the anchors of the settings, or anchors fitted to the boxes of a data set.

        Args:
          sizes: Box sides (w, h), px of the network's input.
          anchor_ratio_threshold: Largest side ratio at which a box and an anchor match.
          seed: Seed of the experiment.
        """

    def build(self, classes: int, anchors: AnchorSizes, localization: Localization) -> TrainableDetector:
        """Return the detector.

        Args:
          classes: Number of classes.
          anchors: Anchors from `fit_anchors`.
          localization: Localization objective, with fitted grids.
        """
