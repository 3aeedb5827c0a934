"""Building blocks: shapes, precision, batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ugs_jax.detectors import blocks
from ugs_jax.detectors.blocks import SPPF, Bottleneck, ConvNormAct, fan_in_uniform, max_pool, norm_silu, upsample


def noise(*shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


@pytest.mark.parametrize("side", [1, 3, 4])
def test_upsampling_repeats_every_pixel(side):
    x = noise(2, side, side + 1, 3)
    np.testing.assert_array_equal(upsample(x), np.repeat(np.repeat(x, 2, axis=1), 2, axis=2))


@pytest.mark.parametrize(("side", "size"), [(1, 5), (3, 5), (8, 5), (8, 3)])
def test_pooling_and_its_gradient_equal_those_of_flax_without_ties(side, size):
    x, weight = noise(2, side, side + 2, 3), noise(2, side, side + 2, 3)[::-1]
    flax = lambda x: nnx.max_pool(x, (size, size), strides=(1, 1), padding="SAME")  # noqa: E731
    np.testing.assert_array_equal(max_pool(x, size), flax(x))
    got, want = (jax.grad(lambda x, f=f: jnp.sum(weight * f(x)))(x) for f in (lambda x: max_pool(x, size), flax))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "want"),
    [(1, 1, None, (7, 10)), (3, 1, None, (7, 10)), (3, 2, None, (4, 5)), (6, 2, 2, (3, 5))],
)
def test_convolutions_halve_by_stride_and_round_as_published(kernel, stride, padding, want):
    run = nnx.eval_shape(lambda: ConvNormAct(3, 8, kernel, stride, padding, rngs=nnx.Rngs(0))(jnp.zeros((2, 7, 10, 3))))
    assert run.shape == (2, *want, 8)


@pytest.mark.parametrize("shape", [(2, 8, 10, 3), (1, 64, 32, 3), (2, 7, 10, 3)])
def test_the_stem_and_its_gradients_are_those_of_a_plain_convolution(shape):
    folded = ConvNormAct(3, 8, 6, 2, 2, rngs=nnx.Rngs(0)).conv
    plain = nnx.Conv(3, 8, (6, 6), strides=2, padding=((2, 2), (2, 2)), use_bias=False, rngs=nnx.Rngs(1))
    x, kernel = noise(*shape), folded.kernel[...]

    def run(layer, kernel, x):
        graph, state = nnx.split(layer)
        state["kernel"] = state["kernel"].replace(kernel)
        return nnx.merge(graph, state)(x)

    got, want = run(folded, kernel, x), run(plain, kernel, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)  # sums of 108 terms in another order
    weight = noise(*want.shape)
    gradients = [
        jax.grad(lambda k, x, layer=layer: jnp.sum(weight * run(layer, k, x)), argnums=(0, 1))(kernel, x)
        for layer in (folded, plain)
    ]
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)  # of up to 1024


def test_a_block_normalises_by_the_batch_in_training_and_by_running_statistics_in_inference():
    block, x = ConvNormAct(4, 6, rngs=nnx.Rngs(0)), noise(3, 5, 5, 4)
    before = np.asarray(x.reshape(-1, 4) @ block.conv.kernel[...], np.float64)
    mean, var = before.mean(0), before.var(0)

    def want(mean, var):
        z = (before - mean) / np.sqrt(var + 1e-3)
        return (z / (1 + np.exp(-z))).reshape(3, 5, 5, 6)

    block.train()
    np.testing.assert_allclose(block(x), want(mean, var), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(block.norm.mean[...], 0.03 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(block.norm.var[...], 0.97 + 0.03 * var, rtol=1e-4)
    block.eval()
    kept = np.asarray(block.norm.mean[...]), np.asarray(block.norm.var[...])
    np.testing.assert_allclose(block(x), want(0.03 * mean, 0.97 + 0.03 * var), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(block.norm.mean[...], kept[0])
    np.testing.assert_array_equal(block.norm.var[...], kept[1])


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_with_silu_and_its_gradients_are_those_of_flax(training):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        norm = nnx.BatchNorm(5, momentum=0.97, epsilon=1e-3, use_running_average=not training, rngs=nnx.Rngs(0))
        graph, state = nnx.split(norm)
        state = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape)), state)
        x, weight = (jnp.asarray(rng.normal(mean, 2, (2, 4, 3, 5))) for mean in (3, 0))

        def run(activate, state, x):
            layer = nnx.merge(graph, state, copy=True)
            layer.dtype = jnp.float64
            return jnp.sum(weight * activate(layer, x)), nnx.state(layer)

        found = [
            jax.value_and_grad(lambda state, x, f=f: run(f, state, x), argnums=(0, 1), has_aux=True)(state, x)
            for f in (norm_silu, lambda norm, x: jax.nn.silu(norm(x)))
        ]
        jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10), *found)


def test_the_gradient_of_blocks_takes_less_memory_than_with_the_normalisation_of_flax(monkeypatch):
    graph, state = nnx.split(nnx.List([ConvNormAct(8, 8, 3, rngs=nnx.Rngs(0)) for _ in range(4)]))

    def run(state, x):
        for block in nnx.merge(graph, state, copy=True):
            x = block(x)
        return x.sum()

    def memory():
        compiled = jax.jit(jax.grad(lambda *given: run(*given))).lower(state, noise(2, 32, 32, 8)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = memory()
    monkeypatch.setattr(blocks, "norm_silu", lambda norm, x: jax.nn.silu(norm(x)))
    assert ours < 0.75 * memory()  # 11 maps, and 17


def test_half_precision_computes_in_half_and_keeps_parameters_and_statistics_in_float32():
    x = noise(3, 5, 5, 4)
    half, exact = (ConvNormAct(4, 6, dtype=dtype, rngs=nnx.Rngs(0)) for dtype in (jnp.bfloat16, jnp.float32))
    for block in (half, exact):
        block.train()
    got, want = half(x), exact(x)
    assert (got.dtype, want.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=0.05)  # a few roundings to 8 bits, of size 1
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(half))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(half.norm.mean[...], exact.norm.mean[...], atol=1e-3)
    np.testing.assert_allclose(half.norm.var[...], exact.norm.var[...], atol=1e-3)


def test_a_bottleneck_adds_its_input_only_with_a_shortcut():
    x = noise(1, 4, 4, 8)
    plain, residual = (Bottleneck(8, shortcut, rngs=nnx.Rngs(0)) for shortcut in (False, True))
    np.testing.assert_allclose(residual(x), plain(x) + x, rtol=1e-5, atol=1e-6)


def test_pyramid_pooling_takes_maxima_over_5_9_and_13_pixels():
    pool, x = SPPF(4, 4, rngs=nnx.Rngs(0)), noise(1, 15, 14, 4)
    seen = []
    pool.merge = lambda joined: seen.append(np.asarray(joined)) or joined
    pool(x)
    reduced, *pooled = np.split(seen[0], 4, axis=-1)
    for window, got in zip((5, 9, 13), pooled, strict=True):
        reach = window // 2
        padded = np.pad(reduced, ((0, 0), (reach, reach), (reach, reach), (0, 0)), constant_values=-np.inf)
        want = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(1, 2)).max((-2, -1))
        np.testing.assert_array_equal(got, want)


def test_initial_weights_are_uniform_within_one_over_the_root_of_the_fan_in():
    draw = fan_in_uniform(64)
    weights = np.asarray(draw(jax.random.key(0), (200, 100)))
    assert weights.dtype == np.float32
    assert np.abs(weights).max() <= 1 / 8
    assert weights.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.02)
    np.testing.assert_array_equal(draw(jax.random.key(0), (200, 100)), weights)
    assert np.any(np.asarray(draw(jax.random.key(1), (200, 100))) != weights)
    assert jax.jit(draw, static_argnums=1)(jax.random.key(0), (5, 3)).shape == (5, 3)
