"""Attention blocks: arithmetic of the formulas, visibility between cells, and randomness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flags import QUICKLY
from tests.reference import attention_by_hand as by_hand
from ugs_jax.detectors.attention import CBAM, CLLA
from ugs_jax.detectors.transformer import C3STR, C3TR, attention_mask, from_windows, into_windows

quick_jit = functools.partial(jax.jit, compiler_options=QUICKLY)


def parameters(module):
    """As nested dictionaries, with random values in the place of zeros and ones, which hide mistakes."""
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(module, nnx.Param)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(scale=0.3, size=leaf.shape), leaf.dtype), params)


def called(module, params, *inputs):
    graph, _, rest = nnx.split(module, nnx.Param, ...)
    return np.asarray(quick_jit(lambda params, *x: nnx.merge(graph, params, rest)(*x))(params, *inputs))


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())  # sums in float32


def test_an_encoder_layer_is_attention_of_four_heads_over_all_cells():
    layer = C3TR(8, 32, 1, rngs=nnx.Rngs(0)).chain.layers[0]
    params, x = parameters(layer), maps(2, 12, 16)
    close(called(layer, params, x, None), [by_hand.encoder_layer(tokens, params) for tokens in x])


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (11, 19), (3, 5)])
@pytest.mark.parametrize("shifted", [0, 1])
def test_a_window_layer_attends_within_its_windows_only(size, shifted):
    layer = C3STR(8, 128, 2, rngs=nnx.Rngs(0)).chain.layers[shifted]
    params, x = parameters(layer), maps(1, *size, 64)
    wanted = by_hand.window_layer(x[0], params, 4 * shifted, heads=2)
    close(called(layer, params, x, None)[0], wanted)


@pytest.mark.parametrize(("shift", "hidden"), [(0, [0, 0, 0, 0]), (4, [0, 0.5, 0.5, 0.75])])
def test_share_of_hidden_pairs_in_the_four_windows_of_a_16_by_16_map(shift, hidden):
    """With a shift, windows at one edge hold two pieces of the map and the one at the corner four."""
    np.testing.assert_array_equal((~attention_mask(16, 16, shift)).mean((1, 2)), hidden)


def test_the_published_mask_lets_two_edges_of_the_image_see_each_other_and_ours_does_not():
    """Its window at the right edge hides 22.7 % of the pairs where half of them lie across the image."""
    ours, right, published = attention_mask(16, 16, 4), by_hand.seen_pairs(16), by_hand.seen_pairs(16, True)
    np.testing.assert_array_equal(ours, right)
    assert [round(100 * share, 1) for share in (~published).mean((1, 2))] == [0, 22.7, 50, 75]
    cell = np.moveaxis(np.indices((16, 16)), 0, -1).astype(np.float32)[None]
    columns = np.asarray(into_windows(jnp.roll(cell, (-4, -4), (1, 2))))[0, :, :, 1]
    apart = np.abs(columns[:, :, None] - columns[:, None])  # in the image
    assert apart[ours].max() <= 7
    across = apart > 8
    assert across[1].mean() == 0.5
    np.testing.assert_array_equal((across & ours).sum((1, 2)), 0)
    np.testing.assert_array_equal((across & published).sum((1, 2)) > 0, [False, True, False, False])


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0, 4]))
@settings(max_examples=30, deadline=None)
def test_cells_see_each_other_within_a_window_and_never_padding(height, width, shift):
    rows, columns = (-(-side // 8) * 8 for side in (height, width))
    mask = attention_mask(height, width, shift)
    cell = np.moveaxis(np.indices((rows, columns)), 0, -1).astype(np.float32)[None]
    placed = np.asarray(into_windows(jnp.roll(cell, (-shift, -shift), (1, 2))))[0]
    real = np.all(placed < [height, width], axis=-1)
    window = (placed - shift) // 8
    together = np.all(window[:, :, None] == window[:, None], axis=-1)
    np.testing.assert_array_equal(mask & real[:, :, None], together & real[:, :, None] & real[:, None])
    assert np.all(mask.any(-1))  # no softmax of nothing


def test_window_partition_can_be_inverted():
    x = maps(2, 16, 24, 3)
    np.testing.assert_array_equal(from_windows(into_windows(jnp.asarray(x)), 24), x)
    np.testing.assert_array_equal(into_windows(jnp.asarray(x))[1, 4].reshape(8, 8, 3), x[1, 8:16, 8:16])


def test_cbam_gates_channels_then_cells():
    module = CBAM(32, rngs=nnx.Rngs(0))
    params, x = parameters(module), maps(2, 5, 9, 32)
    close(called(module, params, x), [by_hand.cbam(one, params) for one in x])


def test_gradients_of_cbam_are_finite_where_all_values_are_equal():
    module = CBAM(16, rngs=nnx.Rngs(0))
    gradient = quick_jit(jax.grad(lambda x: jnp.sum(module(x) ** 2)))(jnp.ones((1, 4, 4, 16)))
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)


def test_clla_attends_to_the_four_finer_cells():
    module = CLLA(6, 10, 16, rngs=nnx.Rngs(0))
    params, fine, coarse = parameters(module), maps(1, 8, 12, 6), maps(1, 4, 6, 10)
    close(called(module, params, fine, coarse)[0], by_hand.clla(fine[0], coarse[0], params))


@pytest.mark.parametrize("block", [C3TR, C3STR])
def test_half_precision_is_close_to_float32(block):
    x = jnp.asarray(maps(1, 8, 8, 32))
    full, half = (
        quick_jit(lambda x, dtype=dtype: block(32, 64, 2, dtype=dtype, rngs=nnx.Rngs(0))(x.astype(dtype)))(x)
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.05 * float(jnp.abs(full).max()))


def test_dropout_is_determined_by_the_key_and_unbiased():
    layer = C3TR(8, 32, 1, rngs=nnx.Rngs(0)).chain
    x = jnp.asarray(maps(1, 2, 2, 16))
    run = quick_jit(jax.vmap(lambda key: layer(x, key)))
    keys = jax.random.split(jax.random.key(0), 4000)
    found = run(keys)
    np.testing.assert_array_equal(run(keys), found)
    assert np.any(np.asarray(found[0] != found[1]))
    # What follows the first dropped branch is not linear, so the mean is near the plain output and not equal to it.
    spread = np.asarray(found).std(0).max()
    np.testing.assert_allclose(found.mean(0), layer(x, None), atol=0.15 * spread)


@pytest.mark.slow
def test_layers_with_wide_windows_drop_whole_branches_and_others_drop_nothing():
    x = jnp.asarray(maps(64, 2, 2, 352))
    key = jax.random.key(0)
    wide, narrow = (C3STR(8, 2 * channels, 1, rngs=nnx.Rngs(0)).chain for channels in (352, 320))
    np.testing.assert_array_equal(*(quick_jit(lambda x, k=k: narrow(x, k))(x[..., :320]) for k in (key, None)))
    dropped, plain = (quick_jit(lambda x, k=k: wide(x, k))(x) for k in (key, None))
    unlike = ~np.isclose(dropped, plain, atol=1e-5)
    # Of 64 images 19 keep both branches scaled by 1/0.9, some lack one: all of an image changes, or nothing that is 0.
    assert unlike.any((1, 2, 3)).all()
    assert 0 <= np.all(dropped == x, (1, 2, 3)).sum() <= 5  # both dropped: 1 in 100
