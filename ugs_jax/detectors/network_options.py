"""Options of a network, which say how large it is built."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from ugs_jax.detectors.levels import AnchorSizes, pyramid_strides

Size = Literal["p", "n", "s", "m", "l", "x"]


class Scale(NamedTuple):
    """Depth and width of a size of a published family, as multiples of size l of YOLOv5.

    Attributes:
      depth: Multiple of the number of blocks.
      width: Multiple of the number of channels.
      most: Largest number of channels before `width` is applied.
    """

    depth: float
    width: float
    most: int = 1024


SCALES: Mapping[str, Scale] = {
    "p": Scale(0.33, 0.125),  # not published: half as wide as n, for a first run on a laptop
    "n": Scale(0.33, 0.25),
    "s": Scale(0.33, 0.50),
    "m": Scale(0.67, 0.75),
    "l": Scale(1.0, 1.0),
    "x": Scale(1.33, 1.25),
}
"""Sizes of YOLOv5 and TPH-YOLOv5."""


@dataclass(frozen=True)
class NetworkOptions:
    """Options with which any of the network classes is built.

    Attributes:
      size: Size p, n, s, m, l or x, which sets the depth and width multiples of the published family. Size p is not
        part of that family.
      p2: Adds the stride-4 level P2, which small objects need.
      classes: Number of classes.
      anchors: Anchor sides (w, h) of every level, finest first, in px of the network's input.
      num_outputs: Localization channels per anchor: 4 for regression, `Localization.num_outputs` in general.
      dtype: Data type of the computation. Parameters and batch statistics stay float32.
      remat: In training, recomputes the activations inside blocks for the gradient instead of storing them.
      second_stage: Hidden width of the second localization stage; 0 disables it.
      quality: Hidden width of the quality predictor; 0 disables it.
      p2_joins: P2 joins the bottom-up path, as in the published networks with P2. If False, P2 ends the top-down path,
        and all other layers are those of the network without P2, so that its weights fit. Without P2 it has no effect.
    """

    size: Size
    p2: bool
    classes: int
    anchors: AnchorSizes
    num_outputs: int = 4
    dtype: Any = jnp.float32
    remat: bool = False
    second_stage: int = 0
    quality: int = 0
    p2_joins: bool = True

    def __post_init__(self) -> None:
        if self.size not in SCALES:
            raise ValueError(f"expected a size among {', '.join(SCALES)}; got {self.size!r}")
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

    @property
    def beside(self) -> int:
        """Number of the finest levels that do not join the bottom-up path: 0 or 1."""
        return int(self.p2 and not self.p2_joins)

    @property
    def scale(self) -> Scale:
        """Depth and width of the size."""
        return SCALES[self.size]

    def channels(self, base: int) -> int:
        """Return the width of a layer that has `base` channels in size l, rounded up to a multiple of 8."""
        return math.ceil(min(base, self.scale.most) * self.scale.width / 8) * 8

    def repeats(self, base: int) -> int:
        """Return the number of bottlenecks in a block that has `base` of them in size l."""
        return max(round(base * self.scale.depth), 1) if base > 1 else base
