"""Merging of detections: compared with a slow loop, algebraic laws, and boxes that tiles have cut."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.reference import merging_by_hand as by_hand
from ugs_jax.evaluation import ImageDetections
from ugs_jax.evaluation.detections import take
from ugs_jax.inference import Merge, merge
from ugs_jax.inference import pairs as pairs_module
from ugs_jax.inference.pairs import neighbours

N = 12


@st.composite
def detections(draw, cut=True):
    """Few values: equal boxes, boxes in boxes, boxes without area and overlaps at the threshold are frequent."""
    low = draw(hnp.arrays(np.int64, (N, 2), elements=st.integers(0, 6)))
    sides = draw(hnp.arrays(np.int64, (N, 2), elements=st.integers(0, 5)))
    scores = np.array(draw(st.permutations(range(1, N + 1)))) / 16  # half of one is never another's
    classes = draw(hnp.arrays(np.int64, N, elements=st.integers(0, 1)))
    marks = draw(hnp.arrays(bool, N)) if cut else None
    return ImageDetections(np.concatenate([low, low + sides], 1).astype(float), scores, classes), marks


options = st.builds(Merge, st.just("nmm"), st.sampled_from(["iou", "ios"]), st.sampled_from([0.0, 0.3, 0.5]))


def items(found, cut=None):
    cut = [None] * len(found.scores) if cut is None else cut.tolist()
    return list(zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), cut, strict=True))


def same(found, want):
    plain = [item[:3] for item in want]  # merging returns no marks
    key = lambda item: (-item[1], item[0], item[2])  # noqa: E731
    assert sorted((item[:3] for item in items(found)), key=key) == sorted(plain, key=key)


@given(detections(cut=False), options)
def test_merging_is_that_of_the_slow_loop(drawn, option):
    found, _ = drawn
    same(merge(found, option), by_hand.merged(items(found), option.metric, option.threshold))


@given(detections(), options)
def test_merging_with_cut_boxes_is_that_of_the_slow_loop(drawn, option):
    found, cut = drawn
    same(merge(found, option, cut), by_hand.merged(items(found, cut), option.metric, option.threshold))


@given(st.one_of(detections(), detections(cut=False)), options)
def test_suppression_is_that_of_the_slow_loop_and_repeating_it_changes_nothing(drawn, option):
    found, cut = drawn
    option = Merge("nms", option.metric, option.threshold)
    once = merge(found, option, cut)
    kept = by_hand.suppressed(items(found, cut), option.metric, option.threshold)
    same(once, [items(found)[i] for i in kept])
    marks = None if cut is None else cut[[found.scores.tolist().index(score) for score in once.scores]]
    assert items(merge(once, option, marks)) == items(once)


@given(st.one_of(detections(), detections(cut=False)), options, st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_does_not_matter(drawn, option, random):
    found, cut = drawn
    order = random.sample(range(N), N)
    ranks = found.scores if cut is None else found.scores * np.where(cut, 0.5, 1)
    if len(set(ranks)) == N:
        shuffled = merge(take(found, np.array(order)), option, None if cut is None else cut[order])
        same(shuffled, items(merge(found, option, cut)))


@given(detections(cut=False), options)
def test_every_box_lies_in_a_result_of_its_class_and_the_best_score_survives(drawn, option):
    found, _ = drawn
    merged = merge(found, option)
    for box, score, index, _ in items(found):
        around = (merged.boxes[:, :2] <= box[:2]).all(1) & (merged.boxes[:, 2:] >= box[2:]).all(1)
        assert np.any(around & (merged.classes == index) & (merged.scores >= score))
    assert merged.scores.max() == found.scores.max()
    assert np.all(np.diff(merged.scores) <= 0)


@given(detections(cut=False), options)
def test_merging_cut_boxes_again_changes_nothing(drawn, option):
    once = merge(drawn[0], option, np.ones(N, bool))
    assert items(merge(once, option, np.ones(len(once.scores), bool))) == items(once)


def two(scores, cut, metric="ios", method="nmm"):
    """A whole box, and its left half as the neighbouring tile saw it."""
    boxes = np.array([[10.0, 10, 30, 20], [10, 10, 20, 20]])
    deviation = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    cut = None if cut is None else np.array(cut)
    found = ImageDetections(boxes, np.array(scores), np.zeros(2, np.int64), deviation)
    return merge(found, Merge(method, metric, 0.5), cut)


@pytest.mark.parametrize("method", ["nms", "nmm"])
def test_a_whole_box_leads_a_cut_part_with_a_higher_score(method):
    found = two([0.5, 0.9], [False, True], method=method)
    assert found.boxes.tolist() == [[10, 10, 30, 20]]
    assert found.deviation.tolist() == [[1, 2, 3, 4]]
    assert found.scores.tolist() == [0.9 if method == "nmm" else 0.5]


def test_a_part_that_leads_grows_to_the_whole_and_takes_the_deviation_of_that_side():
    found = two([0.3, 0.9], [False, True])
    assert found.boxes.tolist() == [[10, 10, 30, 20]]
    assert found.deviation.tolist() == [[5, 6, 3, 8]]


def test_a_part_is_another_object_by_intersection_over_union():
    assert len(two([0.5, 0.9], [False, True], metric="iou").scores) == 2


def test_a_whole_box_is_not_widened_by_another_whole_one():
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    found = ImageDetections(boxes, np.array([0.9, 0.8]), np.zeros(2, np.int64))
    assert merge(found, Merge()).boxes.tolist() == [[0, 0, 11, 10]]
    assert merge(found, Merge(), np.zeros(2, bool)).boxes.tolist() == [[0, 0, 10, 10]]


def test_no_detections_stay_none():
    empty = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 4)))
    for method in ("nms", "nmm"):
        assert len(merge(empty, Merge(method), np.zeros(0, bool)).scores) == 0


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_the_pairs_do_not_depend_on_the_number_compared_at_once(chunk, monkeypatch):
    monkeypatch.setattr(pairs_module, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 60, (60, 2))
    boxes, labels = np.concatenate([low, low + rng.uniform(2, 20, (60, 2))], 1), rng.integers(0, 3, 60)
    found = neighbours(boxes, labels, "iou", 0.1)
    for i in range(60):
        want = [
            j for j in range(60)
            if j != i and labels[i] == labels[j] and by_hand.iou(boxes[i].tolist(), boxes[j].tolist()) > 0.1
        ]  # fmt: skip
        assert found.of(i).tolist() == want


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "wbf"}, r"Merge\.method: expected 'nms' or 'nmm', got 'wbf'"),
        ({"metric": "giou"}, r"Merge\.metric: expected"),
        ({"threshold": 1.0}, r"Merge\.threshold: expected"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    import jaxtyping

    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=None if "threshold" not in arguments else message):
        Merge(**arguments)
