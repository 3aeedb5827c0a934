"""Standard deviations of box sides: enumerated, sampled, and carried to the detections."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.detectors.test_decode import ARCH, outputs
from tests.flags import QUICKLY
from tests.reference.boxes_by_hand import greedy_suppression
from tests.reference.losses_by_hand import softmax
from tests.reference.merging_by_hand import voted
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Postprocess, detect
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid, GridPoints, PredictsDeviation, SideUGS

CENTER, SIZE, UNIT = np.array([20.0, 12.0]), np.array([6.0, 9.0]), np.array([8.0, 4.0])
ANCHORS = Anchors(*(jnp.asarray(part, jnp.float32) for part in (CENTER, SIZE, UNIT)))
INTERVAL = UGS(Grid(2.0, 1.0, 6), Grid(1.5, 0.5, 6))


@functools.partial(jax.jit, static_argnames="objective", compiler_options=QUICKLY)
def deviation(raw, objective):
    return objective.deviation(raw, ANCHORS)


def logits(objective, seed, scale=1.5):
    return np.random.default_rng(seed).normal(scale=scale, size=objective.num_outputs)


def enumerated(raw, axis):
    """Standard deviation of the lower and the upper side over every pair of centre and size."""
    rows = raw.reshape(4, -1)
    center, size = softmax(rows[axis].tolist()), softmax(rows[2 + axis].tolist())
    sides = []
    for sign in (-1, 1):
        outcomes = [
            (p * q, CENTER[axis] + UNIT[axis] * x + sign * SIZE[axis] * np.exp(t) / 2)
            for (p, x), (q, t) in itertools.product(
                zip(center, INTERVAL.center.points(), strict=True), zip(size, INTERVAL.size.points(), strict=True)
            )
        ]
        mean = sum(p * side for p, side in outcomes)
        sides.append(sum(p * (side - mean) ** 2 for p, side in outcomes) ** 0.5)
    return sides


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_deviation_is_that_of_all_outcomes(seed):
    raw = logits(INTERVAL, seed)
    (x1, x2), (y1, y2) = enumerated(raw, 0), enumerated(raw, 1)
    np.testing.assert_allclose(deviation(jnp.float32(raw), INTERVAL), [x1, y1, x2, y2], rtol=1e-5)


def test_the_interval_deviation_is_that_of_samples():
    raw = logits(INTERVAL, 0).reshape(4, -1)
    rng = np.random.default_rng(0)
    draw = lambda row, grid: rng.choice(grid.points(), 200_000, p=softmax(row.tolist()))  # noqa: E731
    centers = [CENTER[k] + UNIT[k] * draw(raw[k], INTERVAL.center) for k in range(2)]
    halves = [SIZE[k] * np.exp(draw(raw[2 + k], INTERVAL.size)) / 2 for k in range(2)]
    sides = [c - h for c, h in zip(centers, halves, strict=True)] + [
        c + h for c, h in zip(centers, halves, strict=True)
    ]
    found = deviation(jnp.float32(raw.ravel()), INTERVAL)
    np.testing.assert_allclose(found, np.std(sides, axis=1), rtol=0.01)  # 200 000 samples: 0.2 % is one deviation


@pytest.mark.parametrize("start", [0, -2])
def test_the_dfl_deviation_is_that_of_its_distances(start):
    objective = DFL(bins=8, start=start)
    raw = logits(objective, 1)
    points = np.arange(8)
    want = []
    for row, unit in zip(raw.reshape(4, 8), [*UNIT, *UNIT], strict=True):
        p = np.array(softmax(row.tolist()))
        want.append(unit * (p @ points**2 - (p @ points) ** 2) ** 0.5)
    np.testing.assert_allclose(deviation(jnp.float32(raw), objective), want, rtol=1e-5)


def test_the_deviation_of_distances_is_that_of_samples_and_differs_between_opposite_sides():
    objective = SideUGS(grid=GridPoints((-1.0, 0.0, 0.2, 0.9, 2.5)))
    rows = logits(objective, 3).reshape(4, -1)
    rng = np.random.default_rng(0)
    drawn = [rng.choice(objective.grid.points(), 200_000, p=softmax(row.tolist())) for row in rows]
    sides = [CENTER[i % 2] + sign * UNIT[i % 2] * drawn[i] for i, sign in enumerate((-1, -1, 1, 1))]
    found = np.asarray(deviation(jnp.float32(rows.ravel()), objective))
    np.testing.assert_allclose(found, np.std(sides, axis=1), rtol=0.01)  # 200 000 samples: 0.2 % is one deviation
    assert np.all(np.abs(found[:2] / found[2:] - 1) > 0.02)


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
        want = [
            voted(boxes[i].tolist(), boxes[classes == classes[i]].tolist(), spread[classes == classes[i]].tolist(), 2.0)
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
