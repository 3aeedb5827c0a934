"""YOLOv8 and YOLO11, sizes n to x (and a pico size for CPUs), with heads P3–P5 or P2–P5. They have no anchors.

A cell predicts one box and the class scores; there is no objectness. Boxes and classes have a branch of two or four
convolutions each. The final 1×1 localization layer is kept separate as a `Localizer`, as in YOLOv5.

Jocher et al., Ultralytics YOLOv8 and YOLO11, described from their public behaviour.
"""

import itertools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import SPPF, ConvNormAct, call_block, upsample
from ugs_jax.detectors.blocks_c2f import C2PSA, Bottleneck, C2f, C3k
from ugs_jax.detectors.network import Network
from ugs_jax.detectors.network_options import NetworkOptions, Scale
from ugs_jax.detectors.split_head import PUBLISHED_OUTPUTS, split_heads


class Backbone(nnx.Module):
    """Layers of the backbone."""

    def __init__(
        self,
        stem: nnx.Module,
        downs: list[ConvNormAct],
        blocks: list[nnx.Module],
        pool: nnx.Module,
        attention: nnx.Module | None,
    ) -> None:
        self.stem, self.downs, self.blocks = stem, nnx.List(downs), nnx.List(blocks)
        self.pool, self.attention = pool, attention


class Neck(nnx.Module):
    """Layers of the top-down and the bottom-up path."""

    def __init__(self, tops: list[nnx.Module], downs: list[ConvNormAct], bottoms: list[nnx.Module]) -> None:
        self.tops, self.downs, self.bottoms = nnx.List(tops), nnx.List(downs), nnx.List(bottoms)


class YOLOv8(Network):
    """YOLOv8."""

    name = "yolov8"
    title = "YOLOv8"
    anchors_per_cell = 1
    has_objectness = False
    scales: Mapping[str, Scale] = {
        "p": Scale(0.33, 0.125),
        "n": Scale(0.33, 0.25),
        "s": Scale(0.33, 0.50),
        "m": Scale(0.67, 0.75, 768),
        "l": Scale(1.0, 1.0, 512),
        "x": Scale(1.0, 1.25, 512),
    }
    pool_act = True
    """False for the few files whose pooling block has no SiLU after its first convolution."""
    pool_block: type[SPPF] = SPPF
    depthwise_scores = False
    published_outputs = PUBLISHED_OUTPUTS
    """Channels of the published localization layer, which bound the width of the box branch."""
    backbone_widths: Sequence[int] = (64, 128, 256, 512, 1024)
    """Channels (of size l) of the stem and of the blocks of P2 to P5."""
    down_widths: Sequence[int] = (128, 256, 512, 1024)
    """Channels of the strided convolutions before these blocks."""

    def __init__(self, arch: NetworkOptions, *, rngs: nnx.Rngs) -> None:
        c, kw, base = arch.channels, {"dtype": arch.dtype, "rngs": rngs}, self.backbone_widths
        self.skip_p2 = not arch.p2
        self.run = nnx.remat(call_block) if arch.remat else call_block
        stages = zip(self.down_widths, base[1:], strict=True)
        self.backbone = Backbone(
            stem=ConvNormAct(3, c(base[0]), 3, 2, **kw),
            downs=[ConvNormAct(c(a), c(b), 3, 2, **kw) for a, b in zip(base[:-1], self.down_widths, strict=True)],
            blocks=[self.stage(arch, i, down, out, rngs) for i, (down, out) in enumerate(stages)],
            pool=self.pool_block(c(base[-1]), c(base[-1]), act=self.pool_act, **kw),
            attention=self.attention(arch, rngs),
        )
        widths, joined, before = arch.widths, base[1:] if arch.p2 else base[2:], base[-1]
        tops, skips, downs, bottoms = [], [], [], []
        for fine, lateral in zip(reversed(widths[:-1]), reversed(joined[:-1]), strict=True):
            tops.append(self.fuse(arch, c(before) + c(lateral), fine, rngs))
            skips.append(before)
            before = fine
        joining = widths[arch.beside :]
        for (fine, coarse), skip in zip(itertools.pairwise(joining), reversed(skips[: len(joining) - 1]), strict=True):
            downs.append(ConvNormAct(c(fine), c(fine), 3, 2, **kw))
            bottoms.append(self.fuse(arch, c(fine) + c(skip), coarse, rngs))
        self.neck = Neck(tops, downs, bottoms)
        self.heads = nnx.List(
            split_heads(arch, rngs, depthwise=self.depthwise_scores, published_outputs=self.published_outputs)
        )

    def stage(self, arch: NetworkOptions, index: int, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return the backbone's block of P2 + `index`, from `inputs` to `outputs` channels (of size l).

        Args:
          arch: Options of the network.
          index: Number of levels above P2.
          inputs: Input channels (of size l).
          outputs: Output channels (of size l).
          rngs: Generator of the initial parameters.
        """
        repeats = arch.repeats((3, 6, 6, 3)[index])
        return _c2f(arch, arch.channels(inputs), arch.channels(outputs), repeats, shortcut=True, rngs=rngs)

    def fuse(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return a block of the neck, from `inputs` channels to `base` channels (of size l).

        Args:
          arch: Options of the network.
          inputs: Input channels.
          base: Output channels (of size l).
          rngs: Generator of the initial parameters.
        """
        return _c2f(arch, inputs, arch.channels(base), arch.repeats(3), shortcut=False, rngs=rngs)

    def attention(self, arch: NetworkOptions, rngs: nnx.Rngs) -> nnx.Module | None:
        """Return the block after pooling, or None.

        Args:
          arch: Options of the network.
          rngs: Generator of the initial parameters.
        """
        return None

    def maps(self, images: Float[Array, "b h w 3"], key: Array | None = None) -> list[Array]:
        """Return the inputs of the heads, finest first, [b, h, w, c].

        Args:
          images: Images with values 0…1.
          key: Key of the units that are dropped at random in training, or None.
        """
        backbone, neck, run = self.backbone, self.neck, self.run
        x, maps = run(backbone.stem, images), []
        for down, block in zip(backbone.downs, backbone.blocks, strict=True):
            x = run(block, run(down, x))
            maps.append(x)
        x = run(backbone.pool, x)
        if backbone.attention is not None:
            x = run(backbone.attention, x)
        skips, merged = [], [x]
        for top, finer in zip(neck.tops, reversed(maps[1 if self.skip_p2 else 0 : -1]), strict=True):
            skips.append(x)
            x = run(top, jnp.concatenate([upsample(x), finer], axis=-1))
            merged.append(x)
        outputs = merged[len(neck.downs) :][::-1]  # P2 if it stands beside, and where the bottom-up path begins
        skips = skips[: len(neck.downs)]
        for down, bottom, skip in zip(neck.downs, neck.bottoms, reversed(skips), strict=True):
            outputs.append(run(bottom, jnp.concatenate([run(down, outputs[-1]), skip], axis=-1)))
        return outputs


class YOLO11(YOLOv8):
    """YOLO11. The published family has no network with P2; ours continues its pattern as YOLOv8's does."""

    name = "yolo11"
    title = "YOLO11"
    scales: Mapping[str, Scale] = {
        "p": Scale(0.50, 0.125),
        "n": Scale(0.50, 0.25),
        "s": Scale(0.50, 0.50),
        "m": Scale(0.50, 1.00, 512),
        "l": Scale(1.0, 1.0, 512),
        "x": Scale(1.0, 1.5, 512),
    }
    depthwise_scores = True
    backbone_widths = (64, 256, 512, 512, 1024)
    down_widths = (128, 256, 512, 1024)

    def stage(self, arch: NetworkOptions, index: int, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return the backbone's block of P2 + `index`, from `inputs` to `outputs` channels (of size l).

        Args:
          arch: Options of the network.
          index: Number of levels above P2.
          inputs: Input channels (of size l).
          outputs: Output channels (of size l).
          rngs: Generator of the initial parameters.
        """
        return c3k2(
            arch, arch.channels(inputs), arch.channels(outputs), rngs, share=4 if index < 2 else 2, deep=index >= 2
        )

    def fuse(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return a block of the neck, from `inputs` channels to `base` channels (of size l).

        Args:
          arch: Options of the network.
          inputs: Input channels.
          base: Output channels (of size l).
          rngs: Generator of the initial parameters.
        """
        # Only the last block of the bottom-up path has inner C3k blocks in sizes n and s.
        last = base == arch.widths[-1]
        return c3k2(arch, inputs, arch.channels(base), rngs, share=2, deep=last)

    def attention(self, arch: NetworkOptions, rngs: nnx.Rngs) -> nnx.Module | None:
        """Return the block after pooling.

        Args:
          arch: Options of the network.
          rngs: Generator of the initial parameters.
        """
        return C2PSA(arch.channels(self.backbone_widths[-1]), arch.repeats(2), dtype=arch.dtype, rngs=rngs)


class YOLOv8LinearPool(YOLOv8):
    """YOLOv8 as releases 8.4.0 to 8.4.140 build it: without SiLU after the first convolution of the pooling block."""

    name, variant, pool_act = "yolov8_linear_pool", " (linear pool)", False


class YOLO11LinearPool(YOLO11):
    """YOLO11 as releases 8.4.0 to 8.4.140 build it: without SiLU after the first convolution of the pooling block."""

    name, variant, pool_act = "yolo11_linear_pool", " (linear pool)", False


def _c2f(arch: NetworkOptions, inputs: int, outputs: int, repeats: int, *, shortcut: bool, rngs: nnx.Rngs) -> C2f:
    def block(channels: int) -> nnx.Module:
        return Bottleneck(channels, channels, shortcut, dtype=arch.dtype, rngs=rngs)

    return C2f(inputs, outputs, outputs // 2, repeats, block, dtype=arch.dtype, rngs=rngs)


def c3k2(arch: NetworkOptions, inputs: int, outputs: int, rngs: nnx.Rngs, *, share: int, deep: bool) -> C2f:
    """Return C2f with 1/`share` of the channels inside, and inner C3k blocks if `deep` or in sizes m, l and x."""

    def block(channels: int) -> nnx.Module:
        if deep or arch.size in ("m", "l", "x"):
            return C3k(channels, dtype=arch.dtype, rngs=rngs)
        return Bottleneck(channels, channels // 2, True, dtype=arch.dtype, rngs=rngs)

    return C2f(inputs, outputs, outputs // share, arch.repeats(2), block, dtype=arch.dtype, rngs=rngs)
