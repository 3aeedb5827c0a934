"""Building blocks of the YOLOv5 family as Flax NNX modules, channels last (NHWC)."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

Initializer = Callable[..., Any]


def fan_in_uniform(fan_in: float) -> Initializer:
    """Return a uniform initialiser on ±1/√fan_in, PyTorch's default for kernels and biases of convolutions.

    It draws on the host: eager `jax.random` calls would compile a program for each of the many shapes of a network.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        if isinstance(key, jax.core.Tracer):  # only shapes are needed: `jax.eval_shape`
            return jax.random.uniform(key, shape, dtype, -bound, bound)
        draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        return jnp.asarray(draw.uniform(-bound, bound, shape), dtype)

    return init


def linear(
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    bias_init: Initializer | None = None,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """Return a linear layer over the last axis, initialised as in PyTorch.

    It also serves as 1×1 convolution: as a matrix product, its backward pass is about twice as fast on a CPU.
    """
    draw = fan_in_uniform(inputs)
    return nnx.Linear(
        inputs, outputs, use_bias=bias, kernel_init=draw, bias_init=bias_init or draw, dtype=dtype, rngs=rngs
    )


def _spatial(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int, dtype: Any, rngs: nnx.Rngs
) -> nnx.Conv:
    kind = _FoldedConv if (kernel, stride, padding) == (6, 2, 2) else nnx.Conv
    return kind(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        use_bias=False,
        feature_group_count=groups,
        kernel_init=fan_in_uniform(inputs // groups * kernel * kernel),
        dtype=dtype,
        rngs=rngs,
    )


class _FoldedConv(nnx.Conv):
    """A 6×6 convolution of stride 2 and padding 2, computed as 3×3 of stride 1 over the channels of 2×2 pixels.

    The sums are the same. For the plain form, XLA (jaxlib 0.10.2) computes the gradient of the kernel much more slowly
    on a CPU.
    """

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        """`[B,H,W,inputs]` → `[B,⌊H/2⌋,⌊W/2⌋,outputs]`."""
        *_, h, w, c = inputs.shape
        if h % 2 or w % 2:
            return super().__call__(inputs, out_sharding)
        dtype, outputs = self.dtype or inputs.dtype, self.out_features
        squares = inputs.astype(dtype).reshape(-1, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        kernel = self.kernel[...].astype(dtype).reshape(3, 2, 3, 2, c, outputs).transpose(0, 2, 1, 3, 4, 5)
        return jax.lax.conv_general_dilated(
            squares.reshape(-1, h // 2, w // 2, 4 * c),
            kernel.reshape(3, 3, 4 * c, outputs),
            window_strides=(1, 1),
            padding=((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class RandomBlock(nnx.Module):
    """A block that is called with a map and a key: random in training, deterministic without a key."""


def call_block(block: Any, x: Array, key: Array | None = None) -> Array:
    """Run a block, with the key if it is a `RandomBlock`."""
    return cast("Array", block(x, key) if isinstance(block, RandomBlock) else block(x))


def norm_silu(norm: nnx.BatchNorm, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Return SiLU of `norm(x)`; in training, use the statistics of the batch and update the running statistics.

    For the gradient only the map `x` is kept, and the rest is computed again; `jax.nn.silu(norm(x))` keeps several
    maps. This saves memory and time in a training step (experiments/results/train_step.md).

    Returns:
      Map in the type of `x`. Statistics and arithmetic are in the type of `norm`.
    """
    if norm.use_running_average:
        mean, variance = norm.mean[...], norm.var[...]
    else:
        axes, wide = tuple(range(x.ndim - 1)), x.astype(norm.dtype)
        mean = wide.mean(axes)
        variance = jnp.maximum(jnp.square(wide).mean(axes) - jnp.square(mean), 0)
        for running, value in ((norm.mean, mean), (norm.var, variance)):
            running[...] = jax.lax.stop_gradient(norm.momentum * running[...] + (1 - norm.momentum) * value)
    assert norm.scale is not None
    assert norm.bias is not None
    scale = norm.scale[...] * jax.lax.rsqrt(variance + norm.epsilon)
    return _scaled_silu(x, scale, norm.bias[...] - mean * scale)


@jax.custom_jvp
def _scaled_silu(x: Array, scale: Array, shift: Array) -> Array:
    return jax.nn.silu(x * scale + shift).astype(x.dtype)


@_scaled_silu.defjvp
def _scaled_silu_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    x, scale, shift = primals
    along_x, along_scale, along_shift = tangents
    # The barrier makes the compiler recompute these values instead of keeping them from the forward pass.
    again = jax.lax.optimization_barrier(x)
    z = again * scale + shift
    sigmoid = jax.nn.sigmoid(z)
    slope = sigmoid * (1 + z * (1 - sigmoid))
    along_z = along_x * scale + again * along_scale + along_shift
    # In the type of `x`, because the gradient of z is a map that is stored.
    return _scaled_silu(x, scale, shift), slope.astype(x.dtype) * along_z.astype(x.dtype)


class ConvNormAct(nnx.Module):
    """Convolution without bias, batch normalisation (ε 1e-3, momentum 0.97), and SiLU unless `act` is False."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
        *,
        groups: int = 1,
        act: bool = True,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv: nnx.Linear | nnx.Conv
        if kernel == 1 and stride == 1:
            self.conv = linear(inputs, outputs, bias=False, dtype=dtype, rngs=rngs)
        else:
            margin = kernel // 2 if padding is None else padding
            self.conv = _spatial(inputs, outputs, kernel, stride, margin, groups, dtype, rngs)
        self.act = act
        # Never in half precision: Flax would also round the running statistics.
        wide = jnp.promote_types(dtype, jnp.float32)
        self.norm = nnx.BatchNorm(outputs, momentum=0.97, epsilon=1e-3, dtype=wide, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """`[B,H,W,inputs]` → `[B,⌈H/stride⌉,⌈W/stride⌉,outputs]`."""
        y = self.conv(x)
        return norm_silu(self.norm, y) if self.act else self.norm(y).astype(y.dtype)


class Bottleneck(nnx.Module):
    """1×1 then 3×3 convolution, with a residual connection where `shortcut` is set."""

    def __init__(self, channels: int, shortcut: bool, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.reduce = ConvNormAct(channels, channels, 1, dtype=dtype, rngs=rngs)
        self.mix = ConvNormAct(channels, channels, 3, dtype=dtype, rngs=rngs)
        self.shortcut = shortcut

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """`[B,H,W,channels]` → the same shape."""
        y = self.mix(self.reduce(x))
        return x + y if self.shortcut else y


class CrossStage(nnx.Module):
    """Frame of a cross-stage partial block: an inner chain on half of the channels and a parallel 1×1 path."""

    def __init__(self, inputs: int, outputs: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        hidden = outputs // 2
        self.enter = ConvNormAct(inputs, hidden, dtype=dtype, rngs=rngs)
        self.bypass = ConvNormAct(inputs, hidden, dtype=dtype, rngs=rngs)
        self.merge = ConvNormAct(2 * hidden, outputs, dtype=dtype, rngs=rngs)

    def join(self, y: Float[Array, "b h w c"], x: Float[Array, "b h w c2"]) -> Float[Array, "b h w c3"]:
        """Merge `y`, the chain's output for `enter(x)`, with the 1×1 path of `x`: → `[B,H,W,outputs]`."""
        return self.merge(jnp.concatenate([y, self.bypass(x)], axis=-1))


class C3(CrossStage):
    """Cross-stage partial block with a chain of bottlenecks."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        repeats: int,
        shortcut: bool = True,
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(inputs, outputs, dtype=dtype, rngs=rngs)
        self.chain = nnx.List([Bottleneck(outputs // 2, shortcut, dtype=dtype, rngs=rngs) for _ in range(repeats)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """`[B,H,W,inputs]` → `[B,H,W,outputs]`."""
        y = self.enter(x)
        for block in self.chain:
            y = block(y)
        return self.join(y, x)


class SPPF(nnx.Module):
    """Spatial pyramid pooling: three chained 5×5 max-pools (receptive fields 5, 9, 13), concatenated."""

    def __init__(
        self, inputs: int, outputs: int, *, act: bool = True, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.reduce = ConvNormAct(inputs, inputs // 2, act=act, dtype=dtype, rngs=rngs)
        self.merge = ConvNormAct(inputs * 2, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """`[B,H,W,inputs]` → `[B,H,W,outputs]`."""
        pools = [self.reduce(x)]
        for _ in range(3):
            pools.append(max_pool(pools[-1], 5))
        return self.merge(jnp.concatenate(pools, axis=-1))


def max_pool(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h w c"]:
    """Return the largest value of every window of size×size cells, with stride 1 and unchanged shape; `size` is odd.

    It is computed by shifts, one axis after the other. For `flax.nnx.max_pool`, XLA (jaxlib 0.10.2) computes wrong
    float32 gradients if rows are split over devices.
    """
    reach = size // 2
    for axis in (1, 2):
        rows = x.shape[axis]
        margin = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, margin, constant_values=-jnp.inf)
        x = reduce(_larger, (jax.lax.slice_in_dim(padded, i, i + rows, axis=axis) for i in range(size)))
    return x


def _larger(a: Array, b: Array) -> Array:
    """Return the elementwise maximum, whose gradient always goes to one side.

    The gradient of `jnp.maximum` goes to the operand that equals the result. If XLA recomputes the operands with
    different rounding, it goes to neither.
    """
    return jnp.where(b > a, b, a)


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Double both sides by nearest-neighbour interpolation."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
