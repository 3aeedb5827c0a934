"""TPH-YOLOv5: three networks that were published in size l, in every size. `TPH` in size x is the paper's baseline.

- `TPH`: P2 to P5; Swin blocks (C3STR) before the heads; the bottom-up path also joins the backbone's maps. (l-xs-tph)
- `TPHCBAM`: P2 to P5; pooling, a C3 (at P5 transformers, C3TR) and gates (CBAM) before the heads, C3TR at the end of
  the backbone; the bottom-up path as in `TPH`. (l-xs-tr-cbam-spp-bifpn)
- `TPHPlus`: P3 to P5; one Swin block at P5, and P3 attends to P2 (CLLA). (l-tph-plus)

Zhu et al., ICCVW 2021; Zhao et al., Remote Sensing 2023. Depth and width follow YOLOv5's multiples.
"""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.attention import CBAM, CLLA, SPP
from ugs_jax.detectors.blocks import C3, RandomBlock, call_block
from ugs_jax.detectors.network_options import NetworkOptions
from ugs_jax.detectors.transformer import C3STR, C3TR
from ugs_jax.detectors.yolov5 import Backbone, Neck, YOLOv5


class _WindowNeck(Neck):
    """Two Swin layers before every head."""

    joins_backbone = True

    def top(self, arch: NetworkOptions, base: int, rngs: nnx.Rngs) -> nnx.Module:
        return self.bottom(arch, 2 * arch.channels(base), base, rngs) if base == 128 else super().top(arch, base, rngs)

    def bottom(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        return C3STR(inputs, arch.channels(base), arch.repeats(2), dtype=arch.dtype, rngs=rngs)


class _Gated(RandomBlock):
    """Pooling, a C3 block, gates."""

    def __init__(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> None:
        width, repeats, kw = arch.channels(base), arch.repeats(3), {"dtype": arch.dtype, "rngs": rngs}
        sizes = {512: (3, 7, 11), 1024: (3, 5, 7)}.get(base, (5, 9, 13))
        self.pool = SPP(inputs, width, sizes, **kw)
        self.block: Any = C3TR(width, width, repeats, **kw) if base == 1024 else C3(width, width, repeats, False, **kw)
        self.gate = CBAM(width, **kw)

    def __call__(self, x: Float[Array, "b h w c"], key: Array | None = None) -> Float[Array, "b h w c2"]:
        return self.gate(call_block(self.block, self.pool(x), key))


class _GatedNeck(Neck):
    joins_backbone = True

    def top(self, arch: NetworkOptions, base: int, rngs: nnx.Rngs) -> nnx.Module:
        return _Gated(arch, 2 * arch.channels(base), base, rngs) if base == 128 else super().top(arch, base, rngs)

    def bottom(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        return _Gated(arch, inputs, base, rngs)


class _GatedBackbone(Backbone):
    last = C3TR


class _PlusNeck(Neck):
    """One Swin layer before the coarsest head."""

    def bottom(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        if base != 1024:
            return super().bottom(arch, inputs, base, rngs)
        return C3STR(inputs, arch.channels(base), arch.repeats(1), dtype=arch.dtype, rngs=rngs)


class _TPHYOLOv5(YOLOv5):
    """Base class of the three networks."""

    random = True
    has_p2: bool | None = True
    title = "TPH-YOLOv5"


class TPH(_TPHYOLOv5):
    """YOLOv5 with Swin blocks before four heads."""

    name, anchors_per_cell = "tph", 4
    neck_type = _WindowNeck


class TPHCBAM(_TPHYOLOv5):
    """YOLOv5 with transformers, pooling and gates before four heads."""

    name, variant, anchors_per_cell = "tph_cbam", " (cbam)", 4
    backbone_type, neck_type = _GatedBackbone, _GatedNeck


class TPHPlus(_TPHYOLOv5):
    """YOLOv5 with three heads, of which the finest attends to P2."""

    name, variant, has_p2 = "tph_plus", " (plus)", False
    neck_type = _PlusNeck

    def __init__(self, arch: NetworkOptions, *, rngs: nnx.Rngs) -> None:
        super().__init__(arch, rngs=rngs)
        self.between = CLLA(*(arch.channels(base) for base in (128, 256, 128)), dtype=arch.dtype, rngs=rngs)

    def head_widths(self, arch: NetworkOptions) -> list[int]:
        """Return the input channels of every head, finest first."""
        return [arch.channels(base) for base in (128, 512, 1024)]

    def features(self, maps: list[Array], fused: list[Array]) -> list[Array]:
        """Return the inputs of the heads. P3 attends to the backbone's P2."""
        return [self.between(maps[0], fused[0]), *fused[1:]]
