"""Localization at gathered cells equals the dense computation, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Localizer, gather, localize
from ugs_jax.objectives import UGS

B, H, W, C, A = 2, 3, 4, 5, 2
OBJECTIVE = UGS()
# A cell twice, the first and the last, and one that is gathered twice by the second image only.
CELLS = np.array([[0, 7, 7, 11, 2], [5, 5, 5, 0, 11]], np.int32)


def problem(dtype):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    localizer = Localizer(draw(C, A, OBJECTIVE.num_outputs), draw(A, OBJECTIVE.num_outputs))
    low = draw(B, CELLS.shape[1], A, 2) * 8
    targets = jnp.concatenate([low, low + 1 + jnp.square(draw(B, CELLS.shape[1], A, 2))], -1)
    return draw(B, H, W, C), localizer, targets


def loss(raw, targets):
    """Of raw outputs at gathered cells; a sine of the boxes lets every output count, each in its own way."""
    center = jnp.zeros((*raw.shape[:-1], 2), raw.dtype)
    anchors = Anchors(center, center + 4, center + 8)
    terms = OBJECTIVE.loss(raw, anchors, targets)
    return jnp.sum(terms.loss * jnp.arange(1, terms.loss.size + 1).reshape(terms.loss.shape)) + jnp.sum(
        jnp.sin(terms.boxes)
    )


def dense(features, localizer, targets):
    return loss(gather(localize(localizer, features), jnp.asarray(CELLS)), targets)


def sparse(features, localizer, targets):
    return loss(localize(localizer, gather(features, jnp.asarray(CELLS))), targets)


def test_values_and_gradients_are_those_of_the_dense_map():
    with jax.enable_x64(True):
        arguments = problem(jnp.float64)
        both = jax.jit(
            lambda *args: [jax.value_and_grad(way, argnums=(0, 1))(*args) for way in (dense, sparse)],
            compiler_options=QUICKLY,
        )
        (want, want_gradients), (got, got_gradients) = both(*arguments)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, want, rtol=1e-13)
        for name, g, w in zip(
            ("features", "kernel", "bias"), jax.tree.leaves(got_gradients), jax.tree.leaves(want_gradients), strict=True
        ):
            np.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-11 * np.abs(w).max(), err_msg=name)
            assert np.any(np.asarray(w) != 0)
        untouched = np.setdiff1d(np.arange(H * W), CELLS[1])
        assert np.all(np.asarray(got_gradients[0]).reshape(B, H * W, C)[1, untouched] == 0)


def test_gathered_values_are_those_at_row_times_width_plus_column():
    values = jnp.arange(B * H * W * 2.0).reshape(B, H, W, 2)
    cells = jnp.array([[[0, 6], [6, 11]], [[1, 1], [2, 3]]])
    got = gather(values, cells)
    for index in np.ndindex(2, 2, 2):
        row, column = divmod(int(cells[index]), W)
        np.testing.assert_array_equal(got[index], values[index[0], row, column])
    assert gather(values[..., 0], cells).shape == (2, 2, 2)
    assert gather(values[..., None, :], cells[:, 0, 0]).shape == (2, 1, 2)


def test_logits_are_features_times_kernel_plus_bias():
    features, localizer, _ = problem(jnp.float32)
    want = np.einsum("bhwc,cak->bhwak", features, localizer.kernel) + np.asarray(localizer.bias)
    np.testing.assert_allclose(localize(localizer, features), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_features_give_logits_summed_in_the_precision_of_the_parameters(dtype):
    features, localizer, _ = problem(jnp.float32)
    half = features.astype(dtype)
    got = localize(localizer, half)
    assert got.dtype == jnp.float32
    kernel = np.asarray(localizer.kernel.astype(dtype), np.float64)
    want = np.einsum("bhwc,cak->bhwak", np.asarray(half, np.float64), kernel) + np.asarray(localizer.bias)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)  # only the factors were rounded
