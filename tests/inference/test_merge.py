"""Merging of detections: compared with a slow loop, algebraic laws, and boxes that tiles have cut."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.reference import merging_by_hand as by_hand
from ugs_jax.inference import Found, Merge, merge
from ugs_jax.inference import pairs as pairs_module
from ugs_jax.inference.pairs import neighbours

N = 12


@st.composite
def detections(draw, cut=True):
    """Few values: equal boxes, boxes in boxes, boxes without area and overlaps at the threshold are frequent."""
    low = draw(hnp.arrays(np.int64, (N, 2), elements=st.integers(0, 6)))
    sides = draw(hnp.arrays(np.int64, (N, 2), elements=st.integers(0, 5)))
    scores = np.array(draw(st.permutations(range(1, N + 1)))) / 16  # half of one is never another's
    labels = draw(hnp.arrays(np.int64, N, elements=st.integers(0, 1)))
    marks = draw(hnp.arrays(bool, N)) if cut else None
    return Found(np.concatenate([low, low + sides], 1).astype(float), scores, labels, None, marks)


options = st.builds(Merge, st.just("nmm"), st.sampled_from(["iou", "ios"]), st.sampled_from([0.0, 0.3, 0.5]))


def items(found):
    cut = [None] * len(found.scores) if found.cut is None else found.cut.tolist()
    return list(zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), cut, strict=True))


def same(found, want):
    key = lambda item: (-item[1], item[0], item[2])  # noqa: E731
    assert sorted(items(found), key=key) == sorted(want, key=key)


@given(detections(cut=False), options)
def test_merging_is_that_of_the_slow_loop(found, option):
    same(merge(found, option), by_hand.merged(items(found), option.metric, option.threshold))


@given(detections(), options)
def test_merging_with_cut_boxes_is_that_of_the_slow_loop(found, option):
    same(merge(found, option), by_hand.merged(items(found), option.metric, option.threshold))


@given(st.one_of(detections(), detections(cut=False)), options)
def test_suppression_is_that_of_the_slow_loop_and_repeating_it_changes_nothing(found, option):
    option = Merge("nms", option.metric, option.threshold)
    once = merge(found, option)
    kept = by_hand.suppressed(items(found), option.metric, option.threshold)
    same(once, [items(found)[i] for i in kept])
    assert items(merge(once, option)) == items(once)


@given(st.one_of(detections(), detections(cut=False)), options, st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_does_not_matter(found, option, random):
    order = random.sample(range(N), N)
    shuffled = Found(*(None if part is None else part[order] for part in found))
    ranks = found.scores if found.cut is None else found.scores * np.where(found.cut, 0.5, 1)
    if len(set(ranks)) == N:
        same(merge(shuffled, option), items(merge(found, option)))


@given(detections(cut=False), options)
def test_every_box_lies_in_a_result_of_its_class_and_the_best_score_survives(found, option):
    merged = merge(found, option)
    for box, score, label, _ in items(found):
        around = (merged.boxes[:, :2] <= box[:2]).all(1) & (merged.boxes[:, 2:] >= box[2:]).all(1)
        assert np.any(around & (merged.labels == label) & (merged.scores >= score))
    assert merged.scores.max() == found.scores.max()
    assert np.all(np.diff(merged.scores) <= 0)


@given(detections(), options)
def test_merging_cut_boxes_again_changes_nothing(found, option):
    once = merge(found._replace(cut=np.ones(N, bool)), option)
    assert items(merge(once, option)) == items(once)


def two(scores, cut, metric="ios", method="nmm"):
    """A whole box, and its left half as the neighbouring tile saw it."""
    boxes = np.array([[10.0, 10, 30, 20], [10, 10, 20, 20]])
    deviation = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    cut = None if cut is None else np.array(cut)
    return merge(Found(boxes, np.array(scores), np.zeros(2, np.int64), deviation, cut), Merge(method, metric, 0.5))


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
    found = Found(boxes, np.array([0.9, 0.8]), np.zeros(2, np.int64))
    assert merge(found, Merge()).boxes.tolist() == [[0, 0, 11, 10]]
    assert merge(found._replace(cut=np.zeros(2, bool)), Merge()).boxes.tolist() == [[0, 0, 10, 10]]


def test_no_detections_stay_none():
    empty = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, bool))
    for method in ("nms", "nmm"):
        assert len(merge(empty, Merge(method)).scores) == 0


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
