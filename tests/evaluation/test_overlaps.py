"""Overlaps of boxes on the host, against plain Python."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.reference import boxes_by_hand as by_hand
from ugs_jax.evaluation.overlaps import areas, corners, intersections, iou, share

xywh = hnp.arrays(np.float64, (5, 4), elements=st.integers(0, 12))


@given(xywh, xywh)
def test_overlaps_of_all_pairs_equal_those_computed_one_by_one(boxes, others):
    boxes, others = corners(boxes), corners(others)
    shared = intersections(boxes[:, None], others)
    ious = iou(shared, areas(boxes)[:, None], areas(others))
    for i, box in enumerate(boxes.tolist()):
        for j, other in enumerate(others.tolist()):
            assert shared[i, j] == by_hand.intersection(box, other)
            # 1e-12: the same ratio of integers.
            assert ious[i, j] == pytest.approx(by_hand.iou(box, other) if shared[i, j] else 0.0, abs=1e-12)


def test_reversed_boxes_have_no_area_and_no_overlap():
    box, other = np.array([[4.0, 4, 1, 1]]), np.array([[0.0, 0, 9, 9]])
    assert areas(box).tolist() == [0.0]
    assert intersections(box, other).tolist() == [0.0]


def test_shares_of_nothing_are_zero_and_keep_the_precision():
    shared = share(np.array([0.0, 2.0], np.float32), np.array([0.0, 8.0], np.float32))
    assert shared.tolist() == [0.0, 0.25]
    assert shared.dtype == np.float32
