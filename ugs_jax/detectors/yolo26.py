"""YOLO26, sizes n to x, with heads P3–P5 or P2–P5: YOLO11 with another pooling block, neck and localization layer.

The published network has two heads on the same features. The first learns from several cells for each object and needs
suppression. The second learns from one. This is the network with the first head, which the published program uses by
default since its release 8.4.142.

Jocher et al., Ultralytics YOLO26, described from its public behaviour.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import SPPF
from ugs_jax.detectors.blocks_c2f import Bottleneck, C2f, PSABlock
from ugs_jax.detectors.network_options import NetworkOptions
from ugs_jax.detectors.yolov8 import YOLO11, c3k2


class ResidualPool(SPPF):
    """Spatial pyramid pooling with a residual connection."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        return x + super().__call__(x)


class AttentiveBottleneck(nnx.Module):
    """Two 3×3 convolutions with a residual connection, then an attention block."""

    def __init__(self, channels: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.parts = nnx.List(
            [
                Bottleneck(channels, channels // 2, True, dtype=dtype, rngs=rngs),
                PSABlock(channels, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        for part in self.parts:
            x = part(x)
        return x


class YOLO26(YOLO11):
    """YOLO26 with the first of its two heads."""

    name = "yolo26"
    title = "YOLO26"
    pool_block = ResidualPool
    pool_act = False
    published_outputs = 4

    def fuse(self, arch: NetworkOptions, inputs: int, base: int, rngs: nnx.Rngs) -> nnx.Module:
        """Return a block of the neck, from `inputs` channels to `base` channels (of size l).

        Args:
          arch: Options of the network.
          inputs: Input channels.
          base: Output channels (of size l).
          rngs: Generator of the initial parameters.
        """
        outputs = arch.channels(base)
        if base != arch.widths[-1]:
            return c3k2(arch, inputs, outputs, rngs, share=2, deep=True)

        def block(channels: int) -> nnx.Module:
            return AttentiveBottleneck(channels, dtype=arch.dtype, rngs=rngs)

        return C2f(inputs, outputs, outputs // 2, 1, block, dtype=arch.dtype, rngs=rngs)
