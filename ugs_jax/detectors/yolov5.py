"""YOLOv5 n/s/m/l/x (and a pico size for CPUs) with heads P3–P5 or P2–P5, without its localization layer.

The network ends in features, objectness and classes for every pyramid level. The last 1×1 layer that localizes is kept
apart as a `Localizer`, because its width belongs to the localization objective and because training and inference
apply it at a few cells only (`sparse.py`).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import C3, SPPF, ConvNormAct, Initializer, fan_in_uniform, upsample

Size = Literal["p", "n", "s", "m", "l", "x"]
AnchorSizes = tuple[tuple[tuple[float, float], ...], ...]

_MULTIPLES: dict[str, tuple[float, float]] = {
    "p": (0.33, 0.125),  # ours: half as wide as n, for a first run on a laptop
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


def pyramid_strides(p2: bool) -> tuple[int, ...]:
    """Pixels a cell for the levels P3 to P5, or P2 to P5."""
    return (4, 8, 16, 32) if p2 else (8, 16, 32)


class Level(NamedTuple):
    """What the network says at one pyramid level of `h`×`w` cells, `a` anchors a cell."""

    features: Float[Array, "b h w c"]
    objectness: Float[Array, "b h w a"]
    classes: Float[Array, "b h w a n"]


class Localizer(NamedTuple):
    """The 1×1 layer from features to localization logits of one level: `raw = features · kernel + bias`."""

    kernel: Float[Array, "c a k"]
    bias: Float[Array, "a k"]


@dataclass(frozen=True)
class Architecture:
    """Which YOLOv5 to build.

    Attributes:
      size: p, n, s, m, l or x (depth and width multiples of the published family; p is ours).
      p2: adds the stride-4 level P2, which small objects need.
      classes: number of classes.
      anchors: per level, finest first, the anchor sides in px of the network's input.
      num_outputs: localization channels an anchor: 4 for regression, `Localization.num_outputs` in general.
      dtype: of the computation; parameters and batch statistics stay float32.
      remat: in training, forget the activations inside blocks and compute them again for the gradient.
    """

    size: Size
    p2: bool
    classes: int
    anchors: AnchorSizes
    num_outputs: int = 4
    dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        if self.size not in _MULTIPLES:
            raise ValueError(f"expected a size among {', '.join(_MULTIPLES)}; got {self.size!r}")
        if len(self.anchors) != len(self.strides):
            raise ValueError(
                f"expected anchors for {len(self.strides)} levels (strides {self.strides}); got {len(self.anchors)}. "
                "Fit them to the data set with `fit_anchors`."
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a cell for every level, finest first."""
        return pyramid_strides(self.p2)

    def channels(self, base: int) -> int:
        """Width of a layer that has `base` channels in size l, rounded up to a multiple of 8."""
        return math.ceil(base * _MULTIPLES[self.size][1] / 8) * 8

    def repeats(self, base: int) -> int:
        """Bottlenecks in a block that has `base` of them in size l."""
        return max(round(base * _MULTIPLES[self.size][0]), 1) if base > 1 else base


def _run_block(block: Any, x: Array) -> Array:
    return cast("Array", block(x))


_run_block_twice = nnx.remat(_run_block)


def _block_runner(arch: Architecture) -> Callable[[Any, Array], Array]:
    """How blocks are called: for the gradient, a second time where their activations are not kept."""
    return _run_block_twice if arch.remat else _run_block


class _Backbone(nnx.Module):
    def __init__(self, arch: Architecture, rngs: nnx.Rngs) -> None:
        c, n, kw = arch.channels, arch.repeats, {"dtype": arch.dtype, "rngs": rngs}
        self.stem = ConvNormAct(3, c(64), 6, 2, 2, **kw)
        widths = (64, 128, 256, 512, 1024)
        downs, blocks = [], []
        for (before, after), depth in zip(itertools.pairwise(widths), (3, 6, 9, 3), strict=True):
            downs.append(ConvNormAct(c(before), c(after), 3, 2, **kw))
            blocks.append(C3(c(after), c(after), n(depth), **kw))
        self.downs, self.blocks = nnx.List(downs), nnx.List(blocks)
        self.pool = SPPF(c(1024), c(1024), **kw)
        self.run = _block_runner(arch)

    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Array]:
        x, maps = self.run(self.stem, x), []
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = self.run(block, self.run(down, x))
            maps.append(x)
        return [*maps[:-1], self.run(self.pool, maps[-1])]  # P2, P3, P4, P5


class _Neck(nnx.Module):
    """Top-down then bottom-up path aggregation over the levels in use."""

    def __init__(self, arch: Architecture, rngs: nnx.Rngs) -> None:
        c, n, kw = arch.channels, arch.repeats, {"dtype": arch.dtype, "rngs": rngs}
        widths = (128, 256, 512, 1024) if arch.p2 else (256, 512, 1024)
        laterals, tops, downs, bottoms = [], [], [], []
        for fine, coarse in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True):
            laterals.append(ConvNormAct(c(coarse), c(fine), **kw))
            tops.append(C3(2 * c(fine), c(fine), n(1 if fine == 128 else 3), shortcut=False, **kw))
        for fine, coarse in itertools.pairwise(widths):
            downs.append(ConvNormAct(c(fine), c(fine), 3, 2, **kw))
            bottoms.append(C3(2 * c(fine), c(coarse), n(3), shortcut=False, **kw))
        self.laterals, self.tops = nnx.List(laterals), nnx.List(tops)
        self.downs, self.bottoms = nnx.List(downs), nnx.List(bottoms)
        self.run = _block_runner(arch)

    def __call__(self, maps: list[Array]) -> list[Array]:
        x, skips = maps[-1], []
        for lateral, top, finer in zip(self.laterals, self.tops, reversed(maps[:-1]), strict=True):
            skips.append(lateral(x))
            x = self.run(top, jnp.concatenate([upsample(skips[-1]), finer], axis=-1))
        outputs = [x]
        for down, bottom, skip in zip(self.downs, self.bottoms, reversed(skips), strict=True):
            outputs.append(self.run(bottom, jnp.concatenate([self.run(down, outputs[-1]), skip], axis=-1)))
        return outputs


class _Head(nnx.Module):
    """One level's objectness and class layer, and the parameters of its localizer."""

    def __init__(self, arch: Architecture, width: int, stride: int, anchors: int, rngs: nnx.Rngs) -> None:
        self.anchors, self.classes, self.outputs = anchors, arch.classes, arch.num_outputs
        draw = fan_in_uniform(width)
        # Start near the share of cells that hold an object (8 objects in 640² px) and near equal class odds.
        prior = np.full((anchors, 1 + arch.classes), math.log(0.6 / (arch.classes - 0.99999)))
        prior[:, 0] = math.log(8 / (640 / stride) ** 2)

        def draw_score_bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
            return draw(key, shape, dtype) + jnp.asarray(prior.reshape(shape), dtype)

        self.score = _linear(width, anchors * (1 + arch.classes), draw, draw_score_bias, arch.dtype, rngs)
        self.localize = _linear(width, anchors * arch.num_outputs, draw, draw, arch.dtype, rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Level:
        kernel, bias = self.score.kernel[...], cast("nnx.Param[Array]", self.score.bias)[...]
        # Half-precision factors, but logits, and the sum over all cells that is the bias' gradient, in float32.
        scores = jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32) + bias
        scores = scores.reshape(*x.shape[:3], self.anchors, 1 + self.classes)
        return Level(x, scores[..., 0], scores[..., 1:])

    def localizer(self) -> Localizer:
        """The parameters of the layer that localizes."""
        kernel, bias = self.localize.kernel, cast("nnx.Param[Array]", self.localize.bias)
        shape = (self.anchors, self.outputs)
        return Localizer(kernel[...].reshape(-1, *shape), bias[...].reshape(shape))


def _linear(
    inputs: int, outputs: int, kernel: Initializer, bias: Initializer, dtype: Any, rngs: nnx.Rngs
) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=kernel, bias_init=bias, dtype=dtype, rngs=rngs)


class YOLOv5(nnx.Module):
    """Backbone, neck and heads; `[B,H,W,3]` in 0…1 with H, W multiples of 32 → a `Level` for every stride."""

    def __init__(self, arch: Architecture, *, rngs: nnx.Rngs) -> None:
        self.skip_p2 = not arch.p2
        self.backbone, self.neck = _Backbone(arch, rngs), _Neck(arch, rngs)
        widths = [arch.channels(w) for w in ((128, 256, 512, 1024) if arch.p2 else (256, 512, 1024))]
        self.heads = nnx.List(
            [
                _Head(arch, width, stride, len(sizes), rngs)
                for width, stride, sizes in zip(widths, arch.strides, arch.anchors, strict=True)
            ]
        )

    def __call__(self, images: Float[Array, "b h w 3"]) -> tuple[Level, ...]:
        """Run the network.

        Raises:
          ValueError: height or width is no multiple of 32, which the levels could not be joined at.
        """
        height, width = images.shape[1:3]
        if height % 32 or width % 32:
            fit = tuple(math.ceil(side / 32) * 32 for side in (height, width))
            raise ValueError(
                f"images: expected height and width that are multiples of 32, got {height}×{width}; "
                f"letterbox or pad them, for instance to {fit[0]}×{fit[1]}"
            )
        maps = self.backbone(images)
        maps = self.neck(maps[1:] if self.skip_p2 else maps)
        return tuple(head(x) for head, x in zip(self.heads, maps, strict=True))

    def localizers(self) -> tuple[Localizer, ...]:
        """The localization layer of every level, finest first."""
        return tuple(head.localizer() for head in self.heads)
