"""The second stage: features at points of a box, and what is added to the raw outputs, against loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.flags import QUICKLY
from tests.reference import second_stage_by_hand as by_hand
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Localizer, localize_again
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid, SecondStage
from ugs_jax.objectives.second_stage import POINTS, SecondStageLayer, residual_logits, sample

B, H, W, C, N, BINS, HIDDEN, STRIDE = 2, 3, 4, 3, 5, 6, 7, 8
GRID = Grid(2.0, 1.0, BINS - 1)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def layer_of(outputs=4 * BINS, dtype=np.float64):
    shapes = ((POINTS * C, HIDDEN), (outputs, HIDDEN), (HIDDEN,), (HIDDEN, outputs))
    return SecondStageLayer(*(jnp.asarray(0.5 * draw(i, *shape), dtype) for i, shape in enumerate(shapes)))


def problem(dtype=np.float64):
    """A layer, maps, boxes inside, across and beyond the borders of the image of 32×24 px, and distributions."""
    low = np.random.default_rng(0).uniform((-6, -6), (W * STRIDE, H * STRIDE), (B, N, 2))
    boxes = np.concatenate([low, low + np.random.default_rng(1).uniform(1, 20, (B, N, 2))], axis=-1)
    boxes[0, 0], boxes[0, 1] = (0, 0, W * STRIDE, H * STRIDE), (-300, 500, -200, 600)
    boxes[1, 0] = (4, 12, 12, 12)  # corners of it are centres of cells
    probabilities = np.asarray(jax.nn.softmax(draw(2, B, N, 4, BINS)))
    return layer_of(dtype=dtype), *(jnp.asarray(part, dtype) for part in (draw(3, B, H, W, C), boxes, probabilities))


run = jax.jit(residual_logits, static_argnames="stride", compiler_options=QUICKLY)


def test_features_at_points_are_bilinear_with_the_border_beyond_the_last_centres():
    rng = np.random.default_rng(0)
    points = rng.uniform((-20, -20), (W * STRIDE + 20, H * STRIDE + 20), (B, 40, 2, 2))
    corners = [(0, 0), (4, 4), (28, 20), (32, 24), (32, 0), (28.001, 4), (3.999, 20), (-1e4, 12), (1e4, 1e4)]
    points[:, : len(corners), 0] = corners
    features = draw(3, B, H, W, C)
    found = sample(jnp.asarray(features, jnp.float32), jnp.asarray(points, jnp.float32), stride=STRIDE)
    for index in np.ndindex(B, 40, 2):
        want = by_hand.sampled(features[index[0]], *points[index], STRIDE)
        np.testing.assert_allclose(found[index], want, rtol=1e-4, atol=1e-5)  # float32 weights


def test_a_map_of_one_cell_is_the_same_everywhere():
    features = jnp.asarray(draw(0, 1, 1, 1, C), jnp.float32)
    points = jnp.asarray(np.random.default_rng(0).uniform(-50, 50, (1, 4, 5, 2)), jnp.float32)
    found = sample(features, points, stride=STRIDE)
    np.testing.assert_allclose(found, np.broadcast_to(features, found.shape), rtol=1e-6)


def test_residual_logits_are_those_of_the_loops():
    layer, features, boxes, probabilities = problem(np.float32)
    found = run(layer, features, boxes, probabilities, stride=STRIDE)
    wide = [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), part) for part in (layer, features, boxes)]
    for i, n in np.ndindex(B, N):
        want = by_hand.residual(wide[0], wide[1][i], wide[2][i, n], np.asarray(probabilities)[i, n], STRIDE)
        np.testing.assert_allclose(found[i, n], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", [UGS(GRID, GRID, second_stage=SecondStage()), DFL(bins=BINS)])
def test_an_output_layer_of_zeros_leaves_boxes_as_they_are_to_the_bit(objective):
    raw = jnp.asarray(draw(5, B, N, 2, objective.num_outputs), jnp.float32)
    around = Anchors(*(jnp.asarray(np.abs(draw(s, B, N, 2, 2)) * 10 + 1, jnp.float32) for s in (6, 7, 8)))
    features = jnp.asarray(draw(3, B, H, W, C), jnp.float32)
    layer = layer_of(dtype=np.float32)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def again(layer):
        localizer = Localizer(jnp.zeros((C, 2, 1)), jnp.zeros((2, 1)), layer)
        return localize_again(localizer, objective, features, raw, around, stride=STRIDE)

    np.testing.assert_array_equal(again(layer._replace(out=jnp.zeros_like(layer.out))), raw)
    moved = again(layer)
    for index in np.ndindex(B, N, 2):
        box, probabilities = (part[index] for part in (objective.decode(raw, around), objective.probabilities(raw)))
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (layer, features[index[0]], box, probabilities))
        np.testing.assert_allclose(moved[index], raw[index] + by_hand.residual(*wide, STRIDE), rtol=1e-3, atol=1e-4)


def test_without_a_second_stage_raw_outputs_are_returned():
    raw, features = jnp.ones((B, N, 4)), jnp.ones((B, H, W, C))
    around = Anchors(*(jnp.ones((B, N, 2)) for _ in range(3)))
    localizer = Localizer(jnp.zeros((C, 1, 4)), jnp.zeros((1, 4)))
    assert localize_again(localizer, BoxRegression(), features, raw, around, stride=STRIDE) is raw


def test_no_gradient_reaches_boxes_or_distributions():
    layer, features, boxes, probabilities = problem(np.float32)
    total = lambda *arguments: jnp.sum(jnp.sin(residual_logits(*arguments, stride=STRIDE)))  # noqa: E731
    slopes = jax.jit(jax.grad(total, (0, 1, 2, 3)), compiler_options=QUICKLY)(layer, features, boxes, probabilities)
    assert not np.any(slopes[2])
    assert not np.any(slopes[3])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(slopes[:2]))


def test_derivatives_by_parameters_and_features_are_those_of_differences():
    with jax.enable_x64(True):
        layer, features, boxes, probabilities = problem()
        function = jax.jit(
            lambda layer, features: residual_logits(layer, features, boxes, probabilities, stride=STRIDE)
        )
        check_grads(function, (layer, features), order=2, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6)


def test_features_in_half_precision_give_logits_in_the_precision_of_the_parameters():
    """bfloat16 has 8 significant bits: features, weights of points and kernels are off by 2⁻⁹ of themselves each."""
    layer, features, boxes, probabilities = problem(np.float32)
    want = run(layer, features, boxes, probabilities, stride=STRIDE)
    found = run(layer, features.astype(jnp.bfloat16), boxes, probabilities, stride=STRIDE)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, want, atol=0.03 * np.abs(want).max())
    assert not np.array_equal(found, want)


def test_an_image_gets_the_same_whatever_else_is_in_the_batch():
    layer, features, boxes, probabilities = problem(np.float32)
    together = run(layer, features, boxes, probabilities, stride=STRIDE)
    alone = run(layer, features[1:], boxes[1:], probabilities[1:], stride=STRIDE)
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-5, atol=1e-6)
