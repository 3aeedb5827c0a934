"""Architecture of a network (size, levels, anchors) and the types of its outputs."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax.objectives.quality import QualityLayer
from ugs_jax.objectives.second_stage import SecondStageLayer

Size = Literal["p", "n", "s", "m", "l", "x"]
Kind = Literal["yolov5", "tph", "tph_cbam", "tph_plus"]
AnchorSizes = tuple[tuple[tuple[float, float], ...], ...]

_MULTIPLES: dict[str, tuple[float, float]] = {
    "p": (0.33, 0.125),  # not published: half as wide as n, for a first run on a laptop
    "n": (0.33, 0.25),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}

COCO_ANCHORS: AnchorSizes = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""The published anchors (width, height in px at 640²) of P3, P4 and P5."""


def anchors_a_cell(kind: Kind) -> int:
    """Return the number of anchors per cell of the published network."""
    return 4 if kind in ("tph", "tph_cbam") else 3


def published_anchors(kind: Kind, p2: bool) -> AnchorSizes:
    """Return the published COCO anchors of every level, extended where the network needs more.

    P2, for which no anchors are published, gets small ones. `tph` and `tph_cbam` get a fourth anchor per cell.
    """
    levels = ((((5, 6), (8, 15), (16, 11)),) if p2 else ()) + COCO_ANCHORS
    return tuple(level[:1] * (anchors_a_cell(kind) - 3) + level for level in levels)


def network_name(size: Size, kind: Kind, p2: bool) -> str:
    """Return the display name of a network: `YOLOv5n`, `YOLOv5s-P2`, `TPH-YOLOv5x`, `TPH-YOLOv5l (cbam)`."""
    if kind == "yolov5":
        return f"YOLOv5{size}{'-P2' if p2 else ''}"
    variant = kind.removeprefix("tph").removeprefix("_")
    return f"TPH-YOLOv5{size}{f' ({variant})' if variant else ''}"


def check_levels(kind: Kind, p2: bool) -> None:
    """Check that a kind of network exists with (or without) the stride-4 level.

    Raises:
      ValueError: The kind is unknown, or `p2` does not suit it.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"expected a kind among {', '.join(get_args(Kind))}; got {kind!r}")
    if kind != "yolov5" and p2 != (kind != "tph_plus"):
        raise ValueError(
            f"expected p2={not p2}, got p2={p2}: {kind} has {'no' if p2 else 'a'} head at stride 4; set p2={not p2}"
        )


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
      features: Feature map that the heads see.
      objectness: Objectness logits.
      classes: Class logits.
    """

    features: Float[Array, "b h w c"]
    objectness: Float[Array, "b h w a"]
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


@dataclass(frozen=True)
class Architecture:
    """Description of the network to build.

    Attributes:
      size: Size p, n, s, m, l or x, which sets the depth and width multiples of the published family. Size p is not
        part of that family.
      p2: Adds the stride-4 level P2, which small objects need. `tph` and `tph_cbam` require it, `tph_plus` excludes it.
      classes: Number of classes.
      anchors: Anchor sides (w, h) of every level, finest first, in px of the network's input.
      num_outputs: Localization channels per anchor: 4 for regression, `Localization.num_outputs` in general.
      dtype: Data type of the computation. Parameters and batch statistics stay float32.
      remat: In training, recomputes the activations inside blocks for the gradient instead of storing them.
      kind: YOLOv5, or one of the three networks of TPH-YOLOv5 (`tph.py`).
      second_stage: Hidden width of the second localization stage; 0 disables it.
      quality: Hidden width of the quality predictor; 0 disables it.
    """

    size: Size
    p2: bool
    classes: int
    anchors: AnchorSizes
    num_outputs: int = 4
    dtype: Any = jnp.float32
    remat: bool = False
    kind: Kind = "yolov5"
    second_stage: int = 0
    quality: int = 0

    def __post_init__(self) -> None:
        if self.size not in _MULTIPLES:
            raise ValueError(f"expected a size among {', '.join(_MULTIPLES)}; got {self.size!r}")
        check_levels(self.kind, self.p2)
        if len(self.anchors) != len(self.strides):
            raise ValueError(
                f"expected anchors for {len(self.strides)} levels (strides {self.strides}); got {len(self.anchors)}. "
                "Fit them to the data set with `fit_anchors`."
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of every level, finest first."""
        return pyramid_strides(self.p2)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the neck's feature maps in size l, finest first."""
        return (128, 256, 512, 1024) if self.p2 else (256, 512, 1024)

    def channels(self, base: int) -> int:
        """Return the width of a layer that has `base` channels in size l, rounded up to a multiple of 8."""
        return math.ceil(base * _MULTIPLES[self.size][1] / 8) * 8

    def repeats(self, base: int) -> int:
        """Return the number of bottlenecks in a block that has `base` of them in size l."""
        return max(round(base * _MULTIPLES[self.size][0]), 1) if base > 1 else base
