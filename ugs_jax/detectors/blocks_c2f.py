"""Building blocks that YOLOv8, YOLO11 and YOLO26 add to those of YOLOv5, channels last (NHWC)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import ConvNormAct, CrossStage

_HEAD, _KEY = 64, 32
"""Channels of a value and of a key in one attention head."""


class Bottleneck(nnx.Module):
    """Two 3×3 convolutions, with a residual connection where `shortcut` is set."""

    def __init__(self, channels: int, hidden: int, shortcut: bool, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.first = ConvNormAct(channels, hidden, 3, dtype=dtype, rngs=rngs)
        self.second = ConvNormAct(hidden, channels, 3, dtype=dtype, rngs=rngs)
        self.shortcut = shortcut

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class C3k(CrossStage):
    """Cross-stage partial block with a chain of two bottlenecks of 3×3 convolutions."""

    def __init__(self, channels: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        super().__init__(channels, channels, dtype=dtype, rngs=rngs)
        hidden = channels // 2
        self.chain = nnx.List([Bottleneck(hidden, hidden, True, dtype=dtype, rngs=rngs) for _ in range(2)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        y = self.enter(x)
        for block in self.chain:
            y = block(y)
        return self.join(y, x)


class C2f(nnx.Module):
    """Two halves of the channels and the output of every inner block, concatenated and mixed.

    `block` builds an inner block for a number of channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        repeats: int,
        block: Callable[[int], nnx.Module],
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.enter = ConvNormAct(inputs, 2 * hidden, dtype=dtype, rngs=rngs)
        self.chain = nnx.List([block(hidden) for _ in range(repeats)])
        self.merge = ConvNormAct((2 + repeats) * hidden, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """`[B,H,W,inputs]` → `[B,H,W,outputs]`."""
        parts = [*jnp.split(self.enter(x), 2, axis=-1)]
        for block in self.chain:
            parts.append(block(parts[-1]))
        return self.merge(jnp.concatenate(parts, axis=-1))


class Attention(nnx.Module):
    """Attention of every cell to every cell, plus a depthwise convolution of the values that tells positions."""

    def __init__(self, channels: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.heads = max(channels // _HEAD, 1)
        self.value = channels // self.heads
        self.key = self.value * _KEY // _HEAD
        kw = {"act": False, "dtype": dtype, "rngs": rngs}
        self.qkv = ConvNormAct(channels, self.heads * (2 * self.key + self.value), **kw)
        self.project = ConvNormAct(channels, channels, **kw)
        self.position = ConvNormAct(channels, channels, 3, groups=channels, **kw)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        b, h, w, c = x.shape
        each = self.qkv(x).reshape(b, h * w, self.heads, -1)
        query, key, value = jnp.split(each, (self.key, 2 * self.key), axis=-1)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)
        weights = jax.nn.softmax(logits / self.key**0.5).astype(x.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(b, h, w, c)
        return self.project(mixed + self.position(value.reshape(b, h, w, c)))


class PSABlock(nnx.Module):
    """Attention, then two 1×1 convolutions, both with a residual connection."""

    def __init__(self, channels: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.attention = Attention(channels, dtype=dtype, rngs=rngs)
        self.expand = ConvNormAct(channels, 2 * channels, dtype=dtype, rngs=rngs)
        self.reduce = ConvNormAct(2 * channels, channels, act=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        x = x + self.attention(x)
        return x + self.reduce(self.expand(x))


class C2PSA(nnx.Module):
    """Attention blocks on one half of the channels."""

    def __init__(self, channels: int, repeats: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        hidden = channels // 2
        self.enter = ConvNormAct(channels, 2 * hidden, dtype=dtype, rngs=rngs)
        self.chain = nnx.List([PSABlock(hidden, dtype=dtype, rngs=rngs) for _ in range(repeats)])
        self.merge = ConvNormAct(2 * hidden, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        kept, changed = jnp.split(self.enter(x), 2, axis=-1)
        for block in self.chain:
            changed = block(changed)
        return self.merge(jnp.concatenate([kept, changed], axis=-1))
