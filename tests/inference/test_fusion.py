"""Weighted box fusion compared with a slow loop."""

import numpy as np
import pytest

from tests.reference import merging_by_hand as by_hand
from ugs_jax.evaluation import ImageDetections
from ugs_jax.inference import weighted_box_fusion


def view(rng, n, deviation=False):
    """Jittered copies of the same objects, with a few of their own."""
    center = np.random.default_rng(7).uniform(0, 100, (n, 2)) + rng.normal(scale=1.0, size=(n, 2))
    side = np.random.default_rng(8).uniform(6, 20, (n, 2)) + rng.normal(scale=0.5, size=(n, 2))
    boxes = np.concatenate([center - side / 2, center + side / 2], 1)
    seen = rng.random(n) < 0.8
    found = ImageDetections(boxes, rng.uniform(0.01, 1, n), np.random.default_rng(9).integers(0, 2, n), boxes / 10)
    return ImageDetections(*(None if part is None else part[seen] for part in (found if deviation else found[:3])))


def plain(found):
    return list(zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.3, 0.55])
def test_fusion_equals_that_of_a_slow_loop(seed, threshold):
    rng = np.random.default_rng(seed)
    views = [view(rng, 40) for _ in range(1 + seed % 4)]
    found = weighted_box_fusion(views, threshold=threshold)
    want = sorted(by_hand.fused([plain(each) for each in views], threshold), key=lambda item: -item[1])
    assert len(views) == 1 or len(want) < sum(len(each.scores) for each in views)
    np.testing.assert_allclose(found.scores, [score for _, score, _ in want], rtol=1e-9)
    np.testing.assert_allclose(found.boxes, [box for box, _, _ in want], rtol=1e-9)
    assert found.classes.tolist() == [label for _, _, label in want]


def test_fusing_equal_views_gives_the_view():
    one = view(np.random.default_rng(0), 1, deviation=True)
    found = weighted_box_fusion([one] * 3)
    np.testing.assert_allclose(found.boxes, one.boxes)
    np.testing.assert_allclose(found.scores, one.scores)
    np.testing.assert_allclose(found.deviation, one.deviation)


def test_a_box_that_one_of_three_views_has_keeps_a_third_of_its_score():
    one = ImageDetections(np.array([[0.0, 0, 4, 4]]), np.array([0.9]), np.array([2]))
    none = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    found = weighted_box_fusion([none, one, none])
    np.testing.assert_allclose(found.scores, [0.3])
    assert found.boxes.tolist() == [[0, 0, 4, 4]]
    assert len(weighted_box_fusion([none, none]).scores) == 0


def test_without_views_or_threshold_it_is_an_error():
    with pytest.raises(ValueError, match="at least one view, got none"):
        weighted_box_fusion([])
    with pytest.raises(ValueError, match="threshold: expected an IoU"):
        weighted_box_fusion([view(np.random.default_rng(0), 3)], threshold=1.0)
