"""Deviations of sides from predicted distributions: enumerated, sampled, and carried to the detections."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import QUICKLY
from tests.detectors.test_decode import ARCH, outputs
from tests.reference.losses_by_hand import softmax
from ugs_jax.boxes import Anchors, variance_voting
from ugs_jax.detectors import Distribution, Grid, Interval, Postprocess, Regression, detect

CENTER, SIZE, UNIT = np.array([20.0, 12.0]), np.array([6.0, 9.0]), np.array([8.0, 4.0])
ANCHORS = Anchors(*(jnp.asarray(part, jnp.float32) for part in (CENTER, SIZE, UNIT)))
INTERVAL = Interval(Grid(2.0, 1.0, 6), Grid(1.5, 0.5, 6))


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
def test_interval_is_that_of_all_outcomes(seed):
    raw = logits(INTERVAL, seed)
    (x1, x2), (y1, y2) = enumerated(raw, 0), enumerated(raw, 1)
    np.testing.assert_allclose(INTERVAL.deviation(jnp.float32(raw), ANCHORS), [x1, y1, x2, y2], rtol=1e-5)


def test_interval_is_that_of_samples():
    raw = logits(INTERVAL, 0).reshape(4, -1)
    rng = np.random.default_rng(0)
    draw = lambda row, grid: rng.choice(grid.points(), 200_000, p=softmax(row.tolist()))  # noqa: E731
    centers = [CENTER[k] + UNIT[k] * draw(raw[k], INTERVAL.center) for k in range(2)]
    halves = [SIZE[k] * np.exp(draw(raw[2 + k], INTERVAL.size)) / 2 for k in range(2)]
    sides = [c - h for c, h in zip(centers, halves, strict=True)] + [
        c + h for c, h in zip(centers, halves, strict=True)
    ]
    found = INTERVAL.deviation(jnp.float32(raw.ravel()), ANCHORS)
    np.testing.assert_allclose(found, np.std(sides, axis=1), rtol=0.01)  # 200 000 samples: 0.2 % is one deviation


@pytest.mark.parametrize("start", [0, -2])
def test_distribution_is_that_of_its_distances(start):
    objective = Distribution(bins=8, start=start)
    raw = logits(objective, 1)
    points = np.arange(8)
    want = []
    for row, unit in zip(raw.reshape(4, 8), [*UNIT, *UNIT], strict=True):
        p = np.array(softmax(row.tolist()))
        want.append(unit * (p @ points**2 - (p @ points) ** 2) ** 0.5)
    np.testing.assert_allclose(objective.deviation(jnp.float32(raw), ANCHORS), want, rtol=1e-5)


@pytest.mark.parametrize("objective", [INTERVAL, Distribution(bins=8)])
def test_a_sure_prediction_has_none_and_its_gradient_is_finite(objective):
    raw = jnp.zeros((4, objective.num_outputs // 4)).at[:, 3].set(1e4).ravel()
    assert np.asarray(objective.deviation(raw, ANCHORS)).tolist() == [0, 0, 0, 0]
    assert np.all(np.isfinite(jax.grad(lambda raw: objective.deviation(raw, ANCHORS).sum())(raw)))


def found_with(objective, options):
    levels, localizers = outputs(objective)
    return jax.jit(lambda *x: detect(*x, objective, ARCH, options), compiler_options=QUICKLY)(levels, localizers)


def test_detections_carry_it_and_votes_move_only_boxes():
    objective = Interval(Grid(2.0, 1.0, 4), Grid(1.0, 0.0, 4))
    options = Postprocess(0.15, 0.5, candidates=60, max_detections=30)
    every = found_with(objective, dataclasses.replace(options, iou_threshold=1.0, max_detections=60))
    plain = found_with(objective, options)
    moved = found_with(objective, dataclasses.replace(options, voting=0.05))
    assert plain.deviation.shape == plain.boxes.shape
    for name in ("scores", "classes", "valid", "deviation"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(moved, name))
    for image in range(2):
        voting = every.valid[image] & (plain.classes[image][:, None] == every.classes[image])
        want = variance_voting(plain.boxes[image], every.boxes[image], every.deviation[image], voting, sigma=0.05)
        seen = plain.valid[image]
        np.testing.assert_allclose(moved.boxes[image][seen], want[seen], rtol=1e-4, atol=1e-3)
        assert not np.allclose(moved.boxes[image][seen], plain.boxes[image][seen], atol=0.1)
    # The deviation of a detection is that of its box: every kept one is among all candidates with it.
    pairs = lambda found: {tuple(np.r_[b, d].round(3).tolist()) for b, d in zip(found.boxes[0], found.deviation[0])}  # noqa: E731, B905
    assert pairs(plain) <= pairs(every) | pairs(
        plain._replace(boxes=plain.boxes[:, :1], deviation=plain.deviation[:, :1])
    )


def test_regression_has_none_and_refuses_to_vote():
    objective = Regression()
    assert objective.deviation(jnp.zeros(4), ANCHORS) is None
    assert found_with(objective, Postprocess(candidates=20)).deviation is None
    with pytest.raises(ValueError, match="expected an objective that predicts deviations, got Regression"):
        found_with(objective, Postprocess(candidates=20, voting=0.02))
    with pytest.raises(ValueError, match=r"Postprocess\.voting: expected a number above 0"):
        Postprocess(voting=0.0)
