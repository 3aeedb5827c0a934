"""Decoding of raw outputs: the sparse path finds the detections of the dense reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.reference import detection_by_hand, localization_by_hand
from ugs_jax.detectors import Architecture, Detections, Level, Localizer, Postprocess, class_scores, detect
from ugs_jax.detectors.decode import best_triples
from ugs_jax.objectives import UGS, BoxRegression, Grid

CLASSES, B, C = 3, 2, 6
ANCHORS = (((6.0, 8.0), (14.0, 9.0)), ((18.0, 20.0), (30.0, 24.0)), ((40.0, 44.0), (60.0, 50.0)))
ARCH = Architecture("p", False, CLASSES, ANCHORS)
SHAPES = ((4, 6), (2, 3), (1, 2))
OBJECTIVES = {"regression": BoxRegression(), "interval": UGS(Grid(2.0, 1.0, 4), Grid(1.0, 0.0, 4))}


def outputs(objective, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    levels = [Level(draw(B, h, w, C), draw(B, h, w, 2), draw(B, h, w, 2, CLASSES)) for h, w in SHAPES]
    localizers = [Localizer(draw(C, 2, objective.num_outputs), draw(2, objective.num_outputs)) for _ in SHAPES]
    return levels, localizers


@functools.partial(jax.jit, static_argnames=("name", "options"), compiler_options=QUICKLY)
def run(levels, localizers, name, options):
    return detect(levels, localizers, OBJECTIVES[name], ARCH, options)


def decode_by_loops(objective, raw, center, size, stride):
    unit = (stride, stride)
    if isinstance(objective, BoxRegression):
        return localization_by_hand.regression(raw, center, size, unit)
    grids = objective.center.points(), objective.size.points()
    return localization_by_hand.interval(raw, center, size, unit, *grids)


def by_loops(levels, localizers, objective, image, options):
    plain = [
        [np.asarray(part, np.float64) for part in (f[image], o[image], c[image], k, b)]
        for (f, o, c), (k, b, *_) in zip(levels, localizers, strict=True)
    ]
    return detection_by_hand.detect(
        plain,
        ARCH.strides,
        ANCHORS,
        functools.partial(decode_by_loops, objective),
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("regression", Postprocess(0.2, 0.4, pre_nms_topk=1000, max_detections=60)),  # more than there are
        ("interval", Postprocess(0.15, 0.5, pre_nms_topk=1000, max_detections=7)),  # fewer than there are
    ],
)
def test_detections_are_those_of_the_dense_loops(name, options):
    levels, localizers = outputs(OBJECTIVES[name])
    found = run(levels, localizers, name, options)
    assert found.boxes.shape == (B, options.max_detections, 4)
    for image in range(B):
        want = by_loops(levels, localizers, OBJECTIVES[name], image, options)
        count = len(want)
        assert 0 < count < 192
        assert np.asarray(found.valid[image]).tolist() == [True] * count + [False] * (options.max_detections - count)
        scores, classes, boxes = zip(*want, strict=True)
        np.testing.assert_allclose(found.scores[image, :count], scores, rtol=1e-5)
        assert np.asarray(found.classes[image, :count]).tolist() == list(classes)
        np.testing.assert_allclose(found.boxes[image, :count], boxes, rtol=1e-4, atol=1e-4)
        assert np.all(np.asarray(found.scores[image, count:]) == 0)
        assert np.all(np.diff(np.asarray(found.scores[image])) <= 0)


def test_with_few_candidates_the_best_are_compared():
    levels, localizers = outputs(OBJECTIVES["regression"])
    options = Postprocess(0.001, 1.0, pre_nms_topk=5, max_detections=7)
    found = run(levels, localizers, "regression", options)
    assert np.asarray(found.valid).tolist() == [[True] * 5 + [False] * 2] * B
    want = by_loops(levels, localizers, OBJECTIVES["regression"], 0, options)[:5]
    np.testing.assert_allclose(found.scores[0, :5], [score for score, _, _ in want], rtol=1e-5)
    np.testing.assert_allclose(found.boxes[0, :5], [box for _, _, box in want], rtol=1e-4, atol=1e-4)


def test_nothing_above_the_threshold_gives_no_detection():
    options = Postprocess(0.2, 0.4, pre_nms_topk=1000, max_detections=60)
    levels, localizers = outputs(OBJECTIVES["regression"])
    quiet = [level._replace(objectness=level.objectness - 100) for level in levels]
    found: Detections = run(quiet, localizers, "regression", options)
    assert not np.any(found.valid)
    assert np.all(np.asarray(found.scores) == 0)


def test_equal_shapes_compile_once():
    options = Postprocess(0.2, 0.4, pre_nms_topk=1000, max_detections=60)
    run(*outputs(OBJECTIVES["regression"]), "regression", options)
    before = run._cache_size()
    run(*outputs(OBJECTIVES["regression"], seed=1), "regression", options)
    assert run._cache_size() == before


@pytest.mark.parametrize(("objectness", "classes"), [(True, 3), (True, 20), (False, 20)])
def test_the_best_triples_are_those_of_all_scores_with_ties_in_the_order_of_cells(objectness, classes):
    rng = np.random.default_rng(4)
    logits = jnp.asarray(rng.integers(-2, 3, (B, 5, 6, 2, classes)), jnp.float32)
    level = Level(jnp.zeros((B, 5, 6, C)), jnp.zeros((B, 5, 6, 2)) if objectness else None, logits)
    every = class_scores(level).reshape(B, -1)
    for count in (7, 40, 1000):
        scores, index = jax.lax.top_k(every, min(count, every.shape[1]))
        found, place, label = best_triples(level, count)
        np.testing.assert_array_equal(found, scores[:, : found.shape[1]])
        np.testing.assert_array_equal(place * classes + label, index[:, : found.shape[1]])
        assert found.shape[1] == min(count, every.shape[1])
