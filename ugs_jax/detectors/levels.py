"""Levels of a detector: anchors, strides, and the outputs of the network at a level."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from ugs_jax.objectives.quality import QualityLayer
from ugs_jax.objectives.second_stage import SecondStageLayer

AnchorSizes = tuple[tuple[tuple[float, float], ...], ...]


def pyramid_strides(p2: bool) -> tuple[int, ...]:
    """Return pixels per cell for the levels P3 to P5, or P2 to P5."""
    return (4, 8, 16, 32) if p2 else (8, 16, 32)


class Pyramid(NamedTuple):
    """Levels of a detector, finest first.

    Attributes:
      anchors: Anchor sides (w, h) of every level, px of the network's input.
      strides: Pixels per cell of every level.
    """

    anchors: AnchorSizes
    strides: tuple[int, ...]


@runtime_checkable
class HasPyramid(Protocol):
    """Anything with the anchors and strides of `Pyramid`, such as `Pyramid` or `Architecture`."""

    @property
    def anchors(self) -> AnchorSizes:
        """Anchor sides (w, h) of every level, px of the network's input."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of every level."""


class Level(NamedTuple):
    """Outputs of the network at one pyramid level of `h`×`w` cells with `a` anchors per cell.

    Attributes:
      features: Feature map that is localized from.
      objectness: Objectness logits, or None if the network predicts only classes.
      classes: Class logits.
    """

    features: Float[Array, "b h w c"]
    objectness: Float[Array, "b h w a"] | None
    classes: Float[Array, "b h w a n"]


class Localizer(NamedTuple):
    """Localization layers of one level: a 1×1 layer, `raw = features · kernel + bias`, and optional further layers.

    Attributes:
      kernel: Weights from features to localization outputs.
      bias: Bias of the localization outputs.
      second: Second localization stage, or None.
      quality: Quality predictor, or None.
    """

    kernel: Float[Array, "c a k"]
    bias: Float[Array, "a k"]
    second: SecondStageLayer | None = None
    quality: QualityLayer | None = None
