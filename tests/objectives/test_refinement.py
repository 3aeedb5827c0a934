"""UR: the perturbation at gathered cells equals that of the whole map; its norm is the radius, for every image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from ugs_jax.objectives.refinement import RADIUS, perturbation, sparse_perturbation

B, H, W, C, BINS = 4, 3, 4, 5, 7
# Image 0 has copies of a cell, image 1 all different cells, image 2 one cell only, image 3 no positive.
CELLS = np.array([[0, 7, 7, 7, 11, 0], [1, 2, 3, 4, 5, 6], [9, 9, 9, 9, 9, 9], [0, 0, 0, 3, 3, 0]], np.int32)
POSITIVE = np.array([[1, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)


def draw(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def at_cells(values, cells):
    return jnp.take_along_axis(values.reshape(values.shape[0], H * W, -1), cells[..., None], axis=1)


def uncertainty(gathered, positive, scale):
    """A sum over candidates of the entropy of a linear layer; copies of a cell have weights of their own."""
    log_p = jax.nn.log_softmax(gathered @ jnp.asarray(draw(C, BINS), gathered.dtype))
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1) * (1 + jnp.arange(positive.shape[1]))
    return scale * jnp.sum(jnp.where(positive, entropy, 0.0))


def follow(features, cells=CELLS, positive=POSITIVE, scale=1.0, radius=RADIUS):
    """ε of whole maps, ε at the cells, and the gradient of the uncertainty that they follow."""

    def of_maps(maps):
        return uncertainty(at_cells(maps, cells), positive, scale)

    gathered = at_cells(features, cells)
    sparse = sparse_perturbation(lambda f: uncertainty(f, positive, scale), gathered, jnp.asarray(cells), radius=radius)
    return perturbation(of_maps, features, radius=radius), sparse, jax.grad(of_maps)(features)


both = jax.jit(follow, static_argnames="radius", compiler_options=QUICKLY)


def norms(values):
    return np.linalg.norm(np.asarray(values, np.float64).reshape(len(values), -1), axis=-1)


def test_sparse_perturbation_is_that_of_the_whole_map_at_the_cells():
    with jax.enable_x64(True):
        whole, sparse, _ = both(jnp.asarray(draw(B, H, W, C)))
        assert sparse.dtype == jnp.float64
        np.testing.assert_allclose(sparse, at_cells(whole, CELLS), rtol=1e-11, atol=1e-13)


def test_its_norm_over_an_image_is_the_radius_and_zero_without_positives():
    whole, sparse, _ = both(jnp.asarray(draw(B, H, W, C, dtype=np.float32)), radius=0.7)
    np.testing.assert_allclose(norms(whole), [0.7, 0.7, 0.7, 0.0], rtol=1e-5)
    assert np.all(np.asarray(sparse)[3] == 0)
    for image in range(B):  # each cell once
        _, once = np.unique(CELLS[image], return_index=True)
        assert np.linalg.norm(np.asarray(sparse)[image, once]) == pytest.approx(norms(whole)[image], rel=1e-5)


def test_it_points_where_the_uncertainty_grows_fastest():
    whole, _, gradient = both(jnp.asarray(draw(B, H, W, C, dtype=np.float32)))
    along = np.sum(np.asarray(gradient * whole, np.float64).reshape(B, -1), axis=-1)
    np.testing.assert_allclose(along, RADIUS * norms(gradient), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e9, 0.0])
def test_only_the_direction_of_the_gradient_counts(scale):
    features = jnp.asarray(draw(B, H, W, C, dtype=np.float32))
    (whole, sparse, _), (want, _, _) = both(features, scale=scale), both(features)
    np.testing.assert_allclose(whole, want * (scale > 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sparse, at_cells(want, CELLS) * (scale > 0), rtol=1e-4, atol=1e-6)


def test_the_perturbation_of_an_image_does_not_depend_on_the_other_images():
    features = jnp.asarray(draw(B, H, W, C, dtype=np.float32))
    together, _, _ = both(features)
    turned, _, _ = both(features.at[1:].multiply(3.0), CELLS, POSITIVE & (np.arange(B) != 1)[:, None])
    np.testing.assert_allclose(turned[0], together[0], rtol=1e-5, atol=1e-7)
    assert np.all(np.asarray(turned)[1] == 0)


def test_no_gradient_flows_through_it():
    features = jnp.asarray(draw(B, H, W, C, dtype=np.float32))
    gradient = jax.jit(
        jax.grad(lambda f: sum(jnp.sum(jnp.sin(part)) for part in follow(f)[:2])), compiler_options=QUICKLY
    )(features)
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_it_has_the_dtype_of_the_features_and_the_requested_norm(dtype):
    whole, sparse, _ = both(jnp.asarray(draw(B, H, W, C), dtype))
    assert whole.dtype == sparse.dtype == dtype
    np.testing.assert_allclose(norms(whole), [RADIUS, RADIUS, RADIUS, 0.0], rtol=0.01)  # numbers of 8 bits
    gathered = np.asarray(at_cells(whole, CELLS), np.float32)
    np.testing.assert_allclose(np.asarray(sparse, np.float32), gathered, atol=0.01)


def test_with_a_norm_over_the_batch_images_with_larger_gradients_get_larger_perturbations():
    features = jnp.asarray(draw(B, H, W, C, dtype=np.float32))
    cells, weights = jnp.asarray(CELLS), jnp.asarray([1.0, 2.0, 4.0, 0.0])

    def uncertainty(gathered):
        return jnp.sum(jnp.sin(gathered) * weights[:, None, None])

    gathered = jnp.take_along_axis(features.reshape(B, H * W, C), cells[..., None], axis=1)
    by_image, by_batch = (
        sparse_perturbation(uncertainty, gathered, cells, radius=0.25, norm=norm) for norm in ("image", "batch")
    )
    maps = [np.zeros((B, H * W, C)) for _ in range(2)]
    for dense, sparse in zip(maps, (by_image, by_batch), strict=True):
        np.put_along_axis(dense, np.asarray(cells)[..., None], np.asarray(sparse), axis=1)
    lengths = [np.linalg.norm(dense.reshape(B, -1), axis=1) for dense in maps]
    np.testing.assert_allclose(lengths[0], [0.25, 0.25, 0.25, 0.0], rtol=1e-5)
    assert np.sqrt(np.mean(lengths[1] ** 2)) == pytest.approx(0.25, rel=1e-5)
    assert lengths[1][0] < lengths[1][1] < lengths[1][2]
    for image in range(B - 1):  # the same direction
        np.testing.assert_allclose(maps[1][image] / lengths[1][image], maps[0][image] / 0.25, rtol=1e-4, atol=1e-6)
