"""Standard deviations of box sides: those of the boxes behind the labels, and carried to the detections."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.detectors.test_decode import ARCH, outputs
from tests.flags import QUICKLY
from tests.reference.boxes_by_hand import greedy_suppression
from tests.reference.merging_by_hand import voted
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Postprocess, detect, localize_candidates
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid, GridPoints, PredictsDeviation, SideUGS

CENTER, SIZE, UNIT = np.array([20.0, 12.0]), np.array([6.0, 9.0]), np.array([8.0, 4.0])
ANCHORS = Anchors(*(jnp.asarray(part, jnp.float32) for part in (CENTER, SIZE, UNIT)))
INTERVAL = UGS(Grid(2.0, 1.0, 6), Grid(1.5, 0.5, 6))


@functools.partial(jax.jit, static_argnames="objective", compiler_options=QUICKLY)
def deviation(raw, objective):
    return objective.deviation(raw, ANCHORS)


def drawn(seed, means, sigmas):
    """20 000 normal samples of each of the four parameters."""
    noise = np.random.default_rng(seed).normal(size=(20_000, 4))
    return np.array(means) + np.array(sigmas) * noise


def mean_labels(samples, grids):
    """Logits of the mean label of each parameter, which cross entropy makes a network predict."""
    rows = [
        np.mean(np.clip(1 - np.abs(hat(samples[:, k], np.asarray(grid))), 0, 1), axis=0) for k, grid in enumerate(grids)
    ]
    return jnp.log(jnp.maximum(jnp.asarray(np.concatenate(rows), jnp.float32), 1e-20))


def hat(samples, grid):
    """Distance of samples to every grid point, in intervals of the side of the point on which the sample is."""
    apart = samples[:, None] - grid
    left, right = np.diff(grid, prepend=grid[0] - 1), np.diff(grid, append=grid[-1] + 1)
    return apart / np.where(apart < 0, left, right)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_deviation_is_that_of_the_boxes_behind_the_labels(seed):
    rng = np.random.default_rng(seed)
    samples = drawn(seed, rng.uniform(-0.5, 0.5, 4), rng.uniform(0.2, 0.3, 4))
    center, size = samples[:, :2], SIZE * np.exp(samples[:, 2:])
    low, high = CENTER + UNIT * center - size / 2, CENTER + UNIT * center + size / 2
    grids = [grid.points() for grid in (INTERVAL.center, INTERVAL.center, INTERVAL.size, INTERVAL.size)]
    found = deviation(mean_labels(samples, grids), INTERVAL)
    np.testing.assert_allclose(found, np.concatenate([low.std(0), high.std(0)]), rtol=0.1)


@pytest.mark.parametrize(
    "objective", [DFL(bins=8), DFL(bins=8, start=-2), SideUGS(grid=GridPoints((-1.0, 0.0, 0.2, 0.9, 2.0, 3.0, 5.0)))]
)
def test_the_deviation_of_distances_is_that_of_the_sides_behind_the_labels(objective):
    sigmas = np.array([0.4, 0.5, 0.6, 0.7])
    samples = drawn(3, [2.1, 1.6, 1.4, 2.4], sigmas)
    points = objective.points if isinstance(objective, DFL) else objective.grid.points()
    found = deviation(mean_labels(samples, [points] * 4), objective)
    np.testing.assert_allclose(found, np.concatenate([UNIT, UNIT]) * sigmas, rtol=0.1)


@functools.partial(jax.jit, static_argnames="objective", compiler_options=QUICKLY)
def spread(raw, objective):
    return objective.spread(raw, ANCHORS)


def test_the_interval_spread_is_that_of_all_pairs_of_grid_points():
    raw = np.random.default_rng(4).normal(size=(4, 7))
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    center, size = INTERVAL.center.points(), INTERVAL.size.points()
    want = []
    for sign, axis in ((-1, 0), (-1, 1), (1, 0), (1, 1)):
        sides = CENTER[axis] + UNIT[axis] * center[:, None] + sign * SIZE[axis] / 2 * np.exp(size)
        weights = p[axis][:, None] * p[2 + axis]
        want.append(np.sqrt(np.sum(weights * (sides - np.sum(weights * sides)) ** 2)))
    np.testing.assert_allclose(spread(jnp.asarray(raw.ravel(), jnp.float32), INTERVAL), want, rtol=1e-5)


@pytest.mark.parametrize("objective", [DFL(bins=7, start=-2), SideUGS(grid=GridPoints((-1, 0, 0.2, 0.9, 2, 3, 5)))])
def test_the_spread_of_distances_is_that_of_the_grid_points(objective):
    raw = np.random.default_rng(5).normal(size=(4, 7))
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    points = objective.points if isinstance(objective, DFL) else objective.grid.points()
    want = [math.sqrt(np.average((points - np.average(points, weights=w)) ** 2, weights=w)) for w in p]
    found = spread(jnp.asarray(raw.ravel(), jnp.float32), objective)
    np.testing.assert_allclose(found, np.concatenate([UNIT, UNIT]) * want, rtol=1e-5)


def test_scores_take_deviations_from_an_objective_without_spreads():
    class Deviates(BoxRegression):
        def deviation(self, raw, anchors):
            return jnp.full((*raw.shape[:-1], 4), 2.0) * jnp.asarray([1.0, 2.0, 3.0, 4.0])

    objective = Deviates()
    levels, localizers = outputs(objective)
    run = jax.jit(lambda *x: localize_candidates(*x, objective, ARCH, 20), compiler_options=QUICKLY)
    found = run(levels, localizers)
    sides = np.tile(np.maximum(found.boxes[..., 2:] - found.boxes[..., :2], 1e-3), 2)
    np.testing.assert_allclose(found.spread, np.mean(found.deviation / sides, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("objective", [INTERVAL, DFL(bins=8), SideUGS()])
def test_a_certain_prediction_has_deviation_zero_and_a_finite_gradient(objective):
    raw = jnp.zeros((4, objective.num_outputs // 4)).at[:, 3].set(1e4).ravel()
    assert np.asarray(deviation(raw, objective)).tolist() == [0, 0, 0, 0]
    gradient = jax.grad(lambda raw: objective.deviation(raw, ANCHORS).sum())
    assert np.all(np.isfinite(jax.jit(gradient, compiler_options=QUICKLY)(raw)))


def found_with(objective, options):
    levels, localizers = outputs(objective)
    return jax.jit(lambda *x: detect(*x, objective, ARCH, options), compiler_options=QUICKLY)(levels, localizers)


def test_detections_have_deviations_and_voting_moves_their_boxes():
    objective = UGS(Grid(2.0, 1.0, 4), Grid(1.0, 0.0, 4))
    every = found_with(objective, Postprocess(0.15, 1.0, pre_nms_topk=60, max_detections=60))
    moved = found_with(objective, Postprocess(0.15, 0.5, pre_nms_topk=60, max_detections=30, voting=2.0))
    for image in range(2):
        seen = np.asarray(every.valid[image])
        boxes, scores, classes, spread = (
            np.asarray(part[image])[seen] for part in (every.boxes, every.scores, every.classes, every.deviation)
        )
        kept = greedy_suppression(boxes.tolist(), scores.tolist(), classes.tolist(), 0.5)[:30]
        got = np.asarray(moved.valid[image])
        np.testing.assert_array_equal(moved.scores[image][got], scores[kept])
        np.testing.assert_array_equal(moved.deviation[image][got], spread[kept])
        shared = 0.1 * (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]
        error = np.sqrt(spread**2 + shared**2)
        want = [
            voted(boxes[i].tolist(), boxes[classes == classes[i]].tolist(), error[classes == classes[i]].tolist(), 2.0)
            for i in kept
        ]
        np.testing.assert_allclose(moved.boxes[image][got], want, rtol=1e-4, atol=1e-3)  # float32
        assert not np.allclose(want, boxes[kept], atol=0.1)


def test_regression_has_none_and_no_score_can_know_it():
    objective = BoxRegression()
    assert not isinstance(objective, PredictsDeviation)
    assert found_with(objective, Postprocess(pre_nms_topk=20)).deviation is None
    with pytest.raises(
        ValueError, match=r"Postprocess\.spread_penalty: expected an objective that predicts deviations"
    ):
        found_with(objective, Postprocess(pre_nms_topk=20, spread_penalty=4.0))
