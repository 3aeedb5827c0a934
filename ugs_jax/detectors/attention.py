"""Parts of TPH-YOLOv5 other than transformers: pooling, gates (CBAM), attention between two levels (CLLA)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import ConvNormAct, fan_in_uniform, linear, max_pool


class SPP(nnx.Module):
    """Spatial pyramid pooling: max-pools of three sizes in parallel, concatenated with their input."""

    def __init__(
        self, inputs: int, outputs: int, sizes: tuple[int, int, int], *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.reduce = ConvNormAct(inputs, inputs // 2, dtype=dtype, rngs=rngs)
        self.merge = ConvNormAct(inputs * 2, outputs, dtype=dtype, rngs=rngs)
        self.sizes = sizes

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """`[B,H,W,inputs]` → `[B,H,W,outputs]`."""
        x = self.reduce(x)
        return self.merge(jnp.concatenate([x, *(max_pool(x, size) for size in self.sizes)], axis=-1))


class CBAM(nnx.Module):
    """Gates for channels from averages and maxima over cells, then gates for cells from those over channels.

    Woo et al., CBAM, ECCV 2018.
    """

    def __init__(self, channels: int, *, reduction: int = 16, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        hidden = max(channels // reduction, 1)
        self.squeeze = linear(channels, hidden, dtype=dtype, rngs=rngs)
        self.excite = linear(hidden, channels, dtype=dtype, rngs=rngs)
        draw = fan_in_uniform(2 * 49)
        self.where = nnx.Conv(2, 1, (7, 7), padding="SAME", kernel_init=draw, bias_init=draw, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        b, h, w, c = x.shape
        cells = x.reshape(b, h * w, c)
        pooled = jnp.stack([jnp.mean(cells, axis=1), _largest(cells, 1)])
        x = x * jax.nn.sigmoid(jnp.sum(self.excite(jax.nn.relu(self.squeeze(pooled))), axis=0))[:, None, None]
        return x * jax.nn.sigmoid(self.where(jnp.stack([jnp.mean(x, axis=-1), _largest(x, -1)], axis=-1)))


class CLLA(nnx.Module):
    """Each cell of P3 attends to the 2×2 cells of P2 that it covers (Zhao et al., TPH-YOLOv5++, Remote Sensing 2023).

    The published formula is softmax(2·mean(d) − d), in which the mean cancels. It prefers the cells whose product d is
    *least*. That equals softmax(d) with −q in the place of q. The sign of q is learned, so nothing is lost.
    """

    def __init__(self, fine: int, coarse: int, channels: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.fine, self.coarse = (
            linear(fine, channels, dtype=dtype, rngs=rngs),
            linear(coarse, channels, dtype=dtype, rngs=rngs),
        )
        self.query, self.key, self.value = (linear(channels, channels, dtype=dtype, rngs=rngs) for _ in range(3))

    def __call__(
        self, fine: Float[Array, "b h2 w2 c2"], coarse: Float[Array, "b h w c"]
    ) -> Float[Array, "b h w channels"]:
        """P2 `[B,2H,2W,·]` and P3 `[B,H,W,·]` → `[B,H,W,channels]`."""
        b, h, w, _ = coarse.shape
        fine = self.fine(fine).reshape(b, h, 2, w, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, 4, -1)
        coarse = self.coarse(coarse)
        wide = jnp.promote_types(coarse.dtype, jnp.float32)
        products = jnp.einsum("bhwc,bhwnc->bhwn", self.query(coarse), self.key(fine), preferred_element_type=wide)
        weights = jax.nn.softmax(-products / 2, axis=-1).astype(coarse.dtype)
        return (jnp.einsum("bhwn,bhwnc->bhwc", weights, self.value(fine)) + coarse) / 2


def _largest(x: Array, axis: int) -> Array:
    """Return the maximum along an axis; its gradient goes to the first of the largest elements.

    The gradient of `jnp.max` goes to the elements that equal the result. It is 0/0 where XLA recomputes the elements
    with different rounding.
    """
    first = jnp.expand_dims(jnp.argmax(x, axis), axis)
    return jnp.sum(jnp.where(jax.lax.broadcasted_iota(jnp.int32, x.shape, axis % x.ndim) == first, x, 0), axis)
