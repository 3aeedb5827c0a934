"""Localized candidates, and what scores make of spread and quality before suppression."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.detectors.test_decode import ARCH, B, C, outputs
from tests.flags import QUICKLY
from tests.reference import second_stage_by_hand as by_hand
from tests.reference.boxes_by_hand import greedy_suppression
from tests.reference.localization_by_hand import sigmoid
from tests.reference.merging_by_hand import voted_by_score
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import LocalizedCandidates, Postprocess, detect, localize_candidates, suppress
from ugs_jax.objectives import UGS, BoxRegression, Grid, Quality, SecondStage
from ugs_jax.objectives.quality import EVIDENCE, QualityLayer
from ugs_jax.objectives.second_stage import POINTS, SecondStageLayer

HIDDEN = 4
OBJECTIVE = UGS(Grid(2.0, 1.0, 4), Grid(1.0, 0.0, 4), second_stage=SecondStage(HIDDEN), quality=Quality(HIDDEN))


def outputs_with_layers():
    levels, localizers = outputs(OBJECTIVE)
    rng = np.random.default_rng(3)
    draw = lambda *shape: jnp.asarray(0.5 * rng.normal(size=shape), jnp.float32)  # noqa: E731
    k, found = OBJECTIVE.num_outputs, []
    for localizer in localizers:
        second = SecondStageLayer(draw(POINTS * C, HIDDEN), draw(k, HIDDEN), draw(HIDDEN), draw(HIDDEN, k))
        quality = QualityLayer(draw(EVIDENCE, HIDDEN), draw(HIDDEN), draw(HIDDEN), draw())
        found.append(localizer._replace(second=second, quality=quality))
    return levels, found


@pytest.fixture(scope="module")
def candidates():
    run = jax.jit(lambda *each: localize_candidates(*each, OBJECTIVE, ARCH, 1000), compiler_options=QUICKLY)
    return jax.device_get(run(*outputs_with_layers()))


@functools.partial(jax.jit, compiler_options=QUICKLY)
def said(raw, anchors):
    """Box, distributions and spread of one anchor."""
    return OBJECTIVE.decode(raw, anchors), OBJECTIVE.probabilities(raw), OBJECTIVE.spread(raw, anchors)


def test_every_candidate_is_that_of_loops_over_cells_after_both_stages(candidates):
    levels, localizers = jax.device_get(outputs_with_layers())
    for image in range(B):
        want = []
        for level, localizer, sizes, stride in zip(levels, localizers, ARCH.anchors, ARCH.strides, strict=True):
            features = level.features[image]
            for row, column, k in np.ndindex(level.objectness.shape[1:]):
                at = Anchors(
                    *map(jnp.float32, ([(column + 0.5) * stride, (row + 0.5) * stride], sizes[k], [stride] * 2))
                )
                raw = features[row, column] @ localizer.kernel[:, k] + localizer.bias[k]
                box, p, _ = map(np.asarray, said(raw, at))
                raw = (raw + by_hand.residual(localizer.second, features, box, p, stride)).astype(np.float32)
                box, p, spread = map(np.asarray, said(raw, at))
                relative = np.mean(spread / np.tile(box[2:] - box[:2], 2))
                quality = sigmoid(by_hand.quality(localizer.quality, p.tolist(), box, stride))
                objectness = sigmoid(level.objectness[image, row, column, k])
                for label, logit in enumerate(level.classes[image, row, column, k]):
                    want.append((objectness * sigmoid(logit), label, quality, relative, *box))
        want = np.array(sorted(want, reverse=True))
        np.testing.assert_allclose(candidates.scores[image], want[:, 0], rtol=1e-5)
        np.testing.assert_array_equal(candidates.classes[image], want[:, 1])
        np.testing.assert_allclose(candidates.quality[image], want[:, 2], rtol=1e-3)
        np.testing.assert_allclose(candidates.spread[image], want[:, 3], rtol=1e-3)
        np.testing.assert_allclose(candidates.boxes[image], want[:, 4:], rtol=1e-3, atol=1e-3)


def test_without_objectness_everything_is_as_with_an_objectness_of_one():
    levels, localizers = outputs_with_layers()
    options = Postprocess(0.05, 0.5, max_detections=30, voting=0.05, spread_penalty=2.0, quality_power=0.5)
    run = jax.jit(lambda *each: detect(*each, OBJECTIVE, ARCH, options), compiler_options=QUICKLY)
    sure = [level._replace(objectness=jnp.full_like(level.objectness, 100.0)) for level in levels]
    want, found = (run(each, localizers) for each in (sure, [level._replace(objectness=None) for level in levels]))
    assert want.valid.sum() > 5
    for one, other in zip(found, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        Postprocess(0.05, 1.0, pre_nms_topk=1000, max_detections=200, spread_penalty=3.0),
        Postprocess(0.05, 1.0, pre_nms_topk=1000, max_detections=200, quality_power=0.5),
        Postprocess(0.02, 0.4, pre_nms_topk=1000, max_detections=40, spread_penalty=1.0, quality_power=2.0),
    ],
)
def test_scores_know_spread_and_quality_before_suppression_and_threshold(candidates, options):
    found = jax.device_get(jax.jit(suppress, static_argnums=1, compiler_options=QUICKLY)(candidates, options))
    for image in range(B):
        rows = zip(*(part[image].tolist() for part in candidates), strict=True)
        scored = []
        for box, score, label, _, quality, spread in rows:
            score *= math.exp(-options.spread_penalty * spread) * quality**options.quality_power
            if score > options.score_threshold:
                scored.append((score, label, box))
        scores, labels, boxes = zip(*scored, strict=True)
        kept = greedy_suppression(boxes, scores, labels, options.iou_threshold)[: options.max_detections]
        count = len(kept)
        assert 3 < count < len(candidates.scores[image])
        assert found.valid[image].tolist() == [True] * count + [False] * (options.max_detections - count)
        np.testing.assert_allclose(found.scores[image, :count], [scores[i] for i in kept], rtol=1e-4)
        assert found.classes[image, :count].tolist() == [labels[i] for i in kept]
        np.testing.assert_allclose(found.boxes[image, :count], [boxes[i] for i in kept], rtol=1e-5, atol=1e-4)


def test_detections_are_what_suppression_leaves_of_the_candidates():
    options = Postprocess(0.05, 0.5, pre_nms_topk=40, voting=0.1, spread_penalty=2.0, quality_power=0.5)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def both(levels, localizers):
        few = localize_candidates(levels, localizers, OBJECTIVE, ARCH, 40)
        return suppress(few, options), detect(levels, localizers, OBJECTIVE, ARCH, options)

    want, found = both(*outputs_with_layers())
    assert np.any(want.valid)
    jax.tree.map(np.testing.assert_array_equal, found, want)


@pytest.mark.parametrize(
    ("objective", "changes"),
    [(BoxRegression(), {}), (UGS(), {"votes": "score", "spread_penalty": 0.5})],
    ids=["without deviations", "by choice, with the penalty"],
)
def test_boxes_are_moved_by_scores(objective, changes):
    every, moved = (
        Postprocess(0.1, iou, pre_nms_topk=1000, max_detections=200, voting=voting, **changes)
        for iou, voting in ((1.0, None), (0.5, 0.5))
    )
    run = jax.jit(lambda *each: [detect(*each, objective, ARCH, options) for options in (every, moved)])
    every, moved = jax.device_get(run(*outputs(objective)))
    for image in range(B):
        seen = every.valid[image]
        boxes, scores, classes = (part[image][seen] for part in (every.boxes, every.scores, every.classes))
        kept = greedy_suppression(boxes.tolist(), scores.tolist(), classes.tolist(), 0.5)
        got = moved.valid[image]
        np.testing.assert_array_equal(moved.scores[image][got], scores[kept])
        same = [classes == classes[i] for i in kept]
        want = [
            voted_by_score(boxes[i].tolist(), boxes[each].tolist(), scores[each].tolist(), 0.5)
            for i, each in zip(kept, same, strict=True)
        ]
        np.testing.assert_allclose(moved.boxes[image][got], want, rtol=1e-4, atol=1e-3)  # float32
        assert not np.allclose(want, boxes[kept], atol=0.1)


def test_unknown_weights_of_votes_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"Postprocess\.votes: expected 'deviation' or 'score', got 'spread'"):
        Postprocess(votes="spread")


def test_options_that_need_what_was_not_predicted_are_refused():
    bare = LocalizedCandidates(jnp.ones((1, 2, 4)), jnp.ones((1, 2)), jnp.zeros((1, 2), int), None, None)
    with pytest.raises(ValueError, match=r"Postprocess\.quality_power: expected an objective with a quality predictor"):
        suppress(bare, Postprocess(quality_power=1.0))
    with pytest.raises(
        ValueError, match=r"Postprocess\.spread_penalty: expected an objective that predicts deviations"
    ):
        suppress(bare, Postprocess(spread_penalty=1.0))


@pytest.mark.parametrize("name", ["spread_penalty", "quality_power"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_factors_that_would_raise_scores_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"Postprocess\.{name}: expected a number >= 0, got"):
        Postprocess(**{name: value})


def test_voting_without_reach_is_refused():
    with pytest.raises(ValueError, match=r"Postprocess\.voting: expected a number above 0"):
        Postprocess(voting=0.0)
