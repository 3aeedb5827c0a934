"""Transformer blocks of TPH-YOLOv5, which replace the bottlenecks of a C3: over the whole map or shifted windows.

Zhu et al., TPH-YOLOv5, ICCVW 2021; windows: Liu et al., Swin Transformer, ICCV 2021. Softmax and normalisation are
float32 in any precision of the computation. Dropout and dropped paths need a key; without one nothing is dropped.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.detectors.blocks import CrossStage, RandomBlock, fan_in_uniform, linear

WINDOW = 8
"""Side of a window, cells."""


class C3Attention(CrossStage, RandomBlock):
    """A C3 with attention layers in the place of its bottlenecks."""

    chain_type: type[Any]

    def __init__(self, inputs: int, outputs: int, repeats: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        super().__init__(inputs, outputs, dtype=dtype, rngs=rngs)
        self.chain = self.chain_type(outputs // 2, repeats, dtype, rngs)

    def __call__(self, x: Float[Array, "b h w c"], key: Array | None = None) -> Float[Array, "b h w c2"]:
        """`[B,H,W,inputs]` → `[B,H,W,outputs]`; `key` draws the dropout in training."""
        return self.join(self.chain(self.enter(x), key), x)


class _Encoder(nnx.Module):
    """Tokens plus a learned linear function of them (instead of a position embedding), then attention layers."""

    def __init__(self, channels: int, repeats: int, dtype: Any, rngs: nnx.Rngs) -> None:
        self.position = linear(channels, channels, dtype=dtype, rngs=rngs)
        self.layers = nnx.List([_EncoderLayer(channels, dtype, rngs) for _ in range(repeats)])

    def __call__(self, x: Float[Array, "b h w c"], key: Array | None) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)
        tokens = tokens + self.position(tokens)
        for layer, layer_key in zip(self.layers, _split(key, len(self.layers)), strict=True):
            tokens = layer(tokens, layer_key)
        return tokens.reshape(b, h, w, c)


class _EncoderLayer(nnx.Module):
    """Pre-norm encoder layer: four heads with two linear layers for each of q, k and v; then c → 4c → c with ReLU."""

    heads = 4

    def __init__(self, channels: int, dtype: Any, rngs: nnx.Rngs) -> None:
        plain = partial(linear, dtype=dtype, rngs=rngs, bias=False)
        self.norm, self.norm2 = _layer_norm(channels, dtype, rngs), _layer_norm(channels, dtype, rngs)
        self.query, self.key, self.value = (plain(channels, channels) for _ in range(3))
        self.inward = nnx.List([_projection(channels, dtype, rngs) for _ in range(3)])
        self.outward = linear(channels, channels, dtype=dtype, rngs=rngs, bias_init=nnx.initializers.zeros_init())
        self.widen, self.narrow = plain(channels, 4 * channels), plain(4 * channels, channels)
        self.dropout = nnx.Dropout(0.1)

    def __call__(self, x: Float[Array, "b n c"], key: Array | None) -> Float[Array, "b n c"]:
        drop = [partial(self.dropout, deterministic=k is None, rngs=k) for k in _split(key, 3)]
        y = self.norm(x).astype(x.dtype)
        projected = (
            into(layer(y)) for into, layer in zip(self.inward, (self.query, self.key, self.value), strict=True)
        )
        heads = (p.reshape(*p.shape[:2], self.heads, -1) for p in projected)
        x = x + drop[0](self.outward(jax.nn.dot_product_attention(*heads).reshape(x.shape)))
        y = jax.nn.relu(self.widen(self.norm2(x).astype(x.dtype)))
        return x + drop[1](self.narrow(drop[2](y)))


class _Windows(nnx.Module):
    def __init__(self, channels: int, repeats: int, dtype: Any, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([_WindowLayer(channels, i % 2 * (WINDOW // 2), dtype, rngs) for i in range(repeats)])

    def __call__(self, x: Float[Array, "b h w c"], key: Array | None) -> Float[Array, "b h w c"]:
        for layer, layer_key in zip(self.layers, _split(key, len(self.layers)), strict=True):
            x = layer(x, layer_key)
        return x


class _WindowLayer(nnx.Module):
    """Pre-norm window layer: attention with a learned bias for every offset of two cells; c → 4c → c with GELU."""

    def __init__(self, channels: int, shift: int, dtype: Any, rngs: nnx.Rngs) -> None:
        self.shift, self.heads = shift, max(channels // 32, 1)
        self.norm, self.norm2 = _layer_norm(channels, dtype, rngs), _layer_norm(channels, dtype, rngs)
        self.inward = linear(channels, 3 * channels, dtype=dtype, rngs=rngs, bias=False)
        self.outward = linear(channels, channels, dtype=dtype, rngs=rngs)
        draw = nnx.initializers.truncated_normal(0.02)
        self.offset_bias = nnx.Param(draw(rngs.params(), ((2 * WINDOW - 1) ** 2, self.heads), jnp.float32))
        self.widen = linear(channels, 4 * channels, dtype=dtype, rngs=rngs)
        self.narrow = linear(4 * channels, channels, dtype=dtype, rngs=rngs)
        # Drops the whole branch of an image (stochastic depth), as the reference does in its widest level only.
        self.dropout = nnx.Dropout(0.1 if self.heads > 10 else 0.0, broadcast_dims=(1, 2, 3))

    def __call__(self, x: Float[Array, "b h w c"], key: Array | None) -> Float[Array, "b h w c"]:
        drop = [partial(self.dropout, deterministic=k is None, rngs=k) for k in _split(key, 2)]
        x = x + drop[0](self._attend(self.norm(x).astype(x.dtype)))
        y = self.narrow(jax.nn.gelu(self.widen(self.norm2(x).astype(x.dtype)), approximate=False))
        return x + drop[1](y)

    def _attend(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        rows, columns = (-(-side // WINDOW) * WINDOW for side in (h, w))
        x = jnp.pad(x, ((0, 0), (0, rows - h), (0, columns - w), (0, 0)))
        x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
        qkv = self.inward(into_windows(x)).reshape(b, -1, WINDOW**2, 3, self.heads, c // self.heads)
        query, key, value = (qkv[..., i, :, :] for i in range(3))
        bias = self.offset_bias[...][_offsets()].transpose(2, 0, 1)[None]
        mask = jnp.asarray(attention_mask(h, w, self.shift))[:, None]
        attend = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, bias, mask)  # noqa: E731
        y = from_windows(self.outward(jax.vmap(attend)(query, key, value).reshape(b, -1, WINDOW**2, c)), columns)
        return jnp.roll(y, (self.shift, self.shift), (1, 2))[:, :h, :w]


class C3TR(C3Attention):
    """C3 of transformer layers over all cells of the map; its memory grows with the square of their number."""

    chain_type = _Encoder


class C3STR(C3Attention):
    """C3 of Swin layers: windows of 8×8 cells, every second layer shifted by 4."""

    chain_type = _Windows


def into_windows(x: Float[Array, "b h w c"]) -> Float[Array, "b windows cells c"]:
    """Cut a map, whose sides are multiples of 8, into windows. Windows, and the cells in them, are in row order."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, WINDOW**2, c)


def from_windows(x: Float[Array, "b windows cells c"], width: int) -> Float[Array, "b h w c"]:
    """Undo `into_windows` for a map of `width` columns."""
    b, _, _, c = x.shape
    x = x.reshape(b, -1, width // WINDOW, WINDOW, WINDOW, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, width, c)


def attention_mask(height: int, width: int, shift: int) -> Bool[np.ndarray, "windows cells cells"]:
    """Return the mask of the cell pairs of a window that attend to each other.

    The map was padded to multiples of 8 and rolled by `shift`. Cells that the roll moved over from the opposite edge do
    not attend to cells that were already there. Cells of the map do not attend to padding. (TPH-YOLOv5 slices its mask
    wrongly: windows at an edge mix both edges, and padding takes part.)

    Args:
      height: Height of the map before padding, cells.
      width: Width of the map before padding, cells.
      shift: Shift of the roll, cells.
    """
    rows, columns = _regions(height, shift), _regions(width, shift)
    region = rows[:, None] * 4 + columns
    windows = region.reshape(len(rows) // WINDOW, WINDOW, -1, WINDOW).transpose(0, 2, 1, 3).reshape(-1, WINDOW**2)
    return np.asarray(windows[:, :, None] == windows[:, None])


def _regions(side: int, shift: int) -> Int[np.ndarray, " padded"]:
    """Return, for every position along an axis after the roll, 2 if it crossed the edge, plus 1 if it is padding."""
    padded = -(-side // WINDOW) * WINDOW
    cell = np.roll(np.arange(padded), -shift)
    return 2 * (cell < shift) + (cell >= side)


def _offsets() -> Int[np.ndarray, "cells cells"]:
    """Return the row of the bias table for two cells of a window, from their offset in rows and columns, each −7…7."""
    row, column = np.divmod(np.arange(WINDOW**2), WINDOW)
    down, right = row[:, None] - row + WINDOW - 1, column[:, None] - column + WINDOW - 1
    return down * (2 * WINDOW - 1) + right


def _split(key: Array | None, count: int) -> list[Array | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))


def _layer_norm(channels: int, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(channels, epsilon=1e-5, dtype=jnp.promote_types(dtype, jnp.float32), rngs=rngs)


def _projection(channels: int, dtype: Any, rngs: nnx.Rngs) -> nnx.Linear:
    """Return one of three layers that PyTorch draws as one matrix: uniform on ±√(6 / (c + 3c)), zero biases."""
    draw = fan_in_uniform(channels / 1.5)
    return nnx.Linear(channels, channels, kernel_init=draw, dtype=dtype, rngs=rngs)
