"""YOLOv5 n/s/m/l/x (and a pico size for CPUs) with heads P3–P5 or P2–P5, without its localization layer.

The network ends in features, objectness and classes of every pyramid level. The final 1×1 localization layer is kept
separate as a `Localizer`: the localization objective sets its width, and training and inference apply it at a few
cells only (`sparse.py`).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import C3, SPPF, ConvNormAct, call_block, fan_in_uniform, linear, upsample
from ugs_jax.detectors.heads import LocalizingHead, score_logits
from ugs_jax.detectors.levels import Level
from ugs_jax.detectors.network import Network
from ugs_jax.detectors.network_options import NetworkOptions

Keys = Iterator[Array | None]
"""One key per block that is random in training, or endless None for a deterministic network."""


def keys_of(key: Array | None) -> Keys:
    """Return keys for the blocks of a network, in the order in which the blocks run."""
    if key is None:
        return itertools.repeat(None)
    return (jax.random.fold_in(key, i) for i in itertools.count())


_call_block_twice = nnx.remat(call_block)
"""`call_block` with rematerialization: activations are computed again for the gradient."""


class Backbone(nnx.Module):
    """CSPDarknet: `[B,H,W,3]` → the feature maps of P2, P3, P4, P5."""

    last: type[Any] = C3
    """Block of the coarsest map."""

    def __init__(self, arch: NetworkOptions, rngs: nnx.Rngs) -> None:
        c, n, kw = arch.channels, arch.repeats, {"dtype": arch.dtype, "rngs": rngs}
        self.stem = ConvNormAct(3, c(64), 6, 2, 2, **kw)
        widths = (64, 128, 256, 512, 1024)
        downs, blocks = [], []
        for (before, after), depth in zip(itertools.pairwise(widths), (3, 6, 9, 3), strict=True):
            downs.append(ConvNormAct(c(before), c(after), 3, 2, **kw))
            blocks.append((self.last if after == 1024 else C3)(c(after), c(after), n(depth), **kw))
        self.downs, self.blocks = nnx.List(downs), nnx.List(blocks)
        self.pool = SPPF(c(1024), c(1024), **kw)
        self.run = _call_block_twice if arch.remat else call_block

    def __call__(self, x: Float[Array, "b h w 3"], keys: Keys) -> list[Array]:
        """Return the feature maps, finest first."""
        x, maps = self.run(self.stem, x), []
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = self.run(block, self.run(down, x), next(keys))
            maps.append(x)
        return [*maps[:-1], self.run(self.pool, maps[-1])]


class Neck(nnx.Module):
    """Top-down, then bottom-up path aggregation over the levels in use."""

    joins_backbone = False
    """If True, the bottom-up path also joins the backbone's map of each level but the finest and the coarsest."""

    def __init__(self, arch: NetworkOptions, rngs: nnx.Rngs) -> None:
        c, kw, widths = arch.channels, {"dtype": arch.dtype, "rngs": rngs}, arch.widths
        laterals, tops, downs, bottoms = [], [], [], []
        for fine, coarse in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True):
            laterals.append(ConvNormAct(c(coarse), c(fine), **kw))
            tops.append(self.top(arch, fine, rngs))
        for fine, coarse in itertools.pairwise(widths[arch.beside :]):
            downs.append(ConvNormAct(c(fine), c(fine), 3, 2, **kw))
            inputs = 2 * c(fine) + (c(coarse) if self.joins_backbone and coarse != widths[-1] else 0)
            bottoms.append(self.bottom(arch, inputs, coarse, rngs))
        self.laterals, self.tops = nnx.List(laterals), nnx.List(tops)
        self.downs, self.bottoms = nnx.List(downs), nnx.List(bottoms)
        self.run = _call_block_twice if arch.remat else call_block

    def top(self, arch: NetworkOptions, base: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return the block of the top-down path that ends in `base` channels (of size l)."""
        repeats, width = arch.repeats(1 if base == 128 else 3), arch.channels(base)
        return C3(2 * width, width, repeats, shortcut=False, dtype=arch.dtype, rngs=rngs)

    def bottom(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return the block of the bottom-up path from `inputs` channels to `base` (of size l)."""
        return C3(inputs, arch.channels(base), arch.repeats(3), shortcut=False, dtype=arch.dtype, rngs=rngs)

    def __call__(self, maps: list[Array], keys: Keys) -> list[Array]:
        """Feature maps of the backbone → feature maps of the heads, finest first."""
        x, skips, merged = maps[-1], [], [maps[-1]]
        for lateral, top, finer in zip(self.laterals, self.tops, reversed(maps[:-1]), strict=True):
            skips.append(lateral(x))
            x = self.run(top, jnp.concatenate([upsample(skips[-1]), finer], axis=-1), next(keys))
            merged.append(x)
        outputs = merged[len(self.downs) :][::-1]  # P2 if it stands beside, and where the bottom-up path begins
        skips = skips[: len(self.downs)]
        for i, (down, bottom, skip) in enumerate(zip(self.downs, self.bottoms, reversed(skips), strict=True), 1):
            joined = [self.run(down, outputs[-1]), skip]
            if self.joins_backbone and i < len(maps) - 1:
                joined.append(maps[i])
            outputs.append(self.run(bottom, jnp.concatenate(joined, axis=-1), next(keys)))
        return outputs


class Head(LocalizingHead):
    """Objectness and class layer of one level, and the parameters of its localizer."""

    def __init__(self, arch: NetworkOptions, width: int, stride: int, anchors: int, rngs: nnx.Rngs) -> None:
        self.classes = arch.classes
        draw = fan_in_uniform(width)
        # Scores start near the share of cells that hold an object (8 objects in 640² px) and near equal class odds.
        prior = np.full((anchors, 1 + arch.classes), math.log(0.6 / (arch.classes - 0.99999)))
        prior[:, 0] = math.log(8 / (640 / stride) ** 2)

        def draw_score_bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
            return draw(key, shape, dtype) + jnp.asarray(prior.reshape(shape), dtype)

        kw = {"dtype": arch.dtype, "rngs": rngs}
        self.score = linear(width, anchors * (1 + arch.classes), bias_init=draw_score_bias, **kw)
        super().__init__(arch, width, anchors, rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Level:
        """Return the outputs of the level, with the features `x` for the localizer."""
        scores = score_logits(self.score, x).reshape(*x.shape[:3], self.anchors, 1 + self.classes)
        return Level(x, scores[..., 0], scores[..., 1:])


class YOLOv5(Network):
    """YOLOv5 v6 and v7."""

    name = "yolov5"
    title = "YOLOv5"
    backbone_type: type[Backbone] = Backbone
    neck_type: type[Neck] = Neck

    def __init__(self, arch: NetworkOptions, *, rngs: nnx.Rngs) -> None:
        self.skip_p2 = not arch.p2
        self.backbone, self.neck = self.backbone_type(arch, rngs), self.neck_type(arch, rngs)
        self.heads = nnx.List(self.make_heads(arch, rngs))

    def make_heads(self, arch: NetworkOptions, rngs: nnx.Rngs) -> Sequence[LocalizingHead]:
        """Return the heads of all levels, finest first.

        Args:
          arch: Options of the network.
          rngs: Generator of the initial parameters.
        """
        levels = zip(self.head_widths(arch), arch.strides, arch.anchors, strict=True)
        return [Head(arch, width, stride, len(sizes), rngs) for width, stride, sizes in levels]

    def head_widths(self, arch: NetworkOptions) -> list[int]:
        """Return the input channels of every head, finest first."""
        return [arch.channels(base) for base in arch.widths]

    def maps(self, images: Float[Array, "b h w 3"], key: Array | None = None) -> list[Array]:
        """Return the inputs of the heads, finest first, [b, h, w, c].

        Args:
          images: Images with values 0…1.
          key: Key of the units that are dropped at random in training, or None.
        """
        keys = keys_of(key)
        maps = self.backbone(images, keys)
        return self.features(maps, self.neck(maps[1:] if self.skip_p2 else maps, keys))

    def features(self, maps: list[Array], fused: list[Array]) -> list[Array]:
        """Return the inputs of the heads, from the maps of the backbone (P2 to P5) and of the neck.

        Args:
          maps: Feature maps of the backbone, finest first, [b, h, w, c].
          fused: Feature maps of the neck, finest first, [b, h, w, c].
        """
        return fused
