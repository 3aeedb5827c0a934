"""What a detector and a localization objective have to know of each other."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax.detectors.settings import Refinement


class Terms(NamedTuple):
    """What an objective says of positives, unreduced.

    Attributes:
      loss: to be minimised.
      parts: its named terms, for the log.
      uncertainty: of the prediction, in [0, 1]; 0 for objectives that know none.
      boxes: decoded predictions, xyxy px.
    """

    loss: Float[Array, "*batch"]
    parts: dict[str, Array]
    uncertainty: Float[Array, "*batch"]
    boxes: Float[Array, "*batch 4"]


@runtime_checkable
class Localization(Protocol):
    """What a detector needs of its localization objective."""

    @property
    def num_outputs(self) -> int:
        """Channels an anchor."""

    @property
    def refinement(self) -> Refinement | None:
        """Whether and how features are perturbed (UR)."""

    def decode(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Raw outputs to boxes, xyxy px."""

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"] | None:
        """Standard deviation of each side (x1, y1, x2, y2), px; None for objectives that predict no distribution."""

    def loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Terms:
        """Raw outputs against target boxes (xyxy px), one value a positive."""

    def uncertainty_loss(
        self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors, targets: Float[Array, "*batch 4"]
    ) -> Float[Array, "*batch"]:
        """L_UM, whose gradient UR follows; zero for objectives that know no uncertainty."""
