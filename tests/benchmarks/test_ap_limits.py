"""Limits of AP, on three objects whose scores can be counted by hand."""

import numpy as np
import pytest

from experiments.benchmarks import ap_limits
from ugs_jax.evaluation import CocoScorer
from ugs_jax.evaluation.matching import Found, Objects

TRUTH = np.array([[10.0, 10, 20, 20], [60, 60, 10, 10], [100, 20, 40, 10]])
CLASSES = np.array([0, 0, 1])


def objects_and_scorer():
    names = [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]
    annotations = [
        {"id": i + 1, "image_id": 0, "category_id": int(c) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (box, c) in enumerate(zip(TRUTH.tolist(), CLASSES, strict=True))
    ]
    image = {"id": 0, "width": 200, "height": 100, "file_name": "0.png"}
    truth = {"images": [image], "annotations": annotations, "categories": names}
    none = np.zeros((0, 4))
    return Objects(TRUTH, CLASSES, np.zeros(3, int), none, np.zeros(0, int)), CocoScorer(truth)


def detections():
    """A box off by a fifth, its duplicate, an exact box of the wrong class, an exact box, and one on background."""
    boxes = np.array([TRUTH[0] + [4, 0, 0, 0], TRUTH[0] + [5, 0, 0, 0], TRUTH[1], TRUTH[2], [150, 70, 10, 10]])
    classes, scores = np.array([0, 0, 1, 1, 1]), np.array([0.9, 0.5, 0.8, 0.7, 0.95])
    return Found(boxes, scores, classes, np.zeros(5, int), None)


def test_limits_are_those_that_can_be_counted():
    objects, scorer = objects_and_scorer()
    run = ap_limits.of_detections("run", detections(), objects, classes=2)
    assert run.objects.tolist() == [0, -1, -1, 2, -1]
    assert run.duplicates.tolist() == [False, True, False, False, False]
    assert run.confused.tolist() == [False, False, True, False, False]
    found = ap_limits.limits(run, objects, scorer)
    # Car: an IoU of 2/3 counts at four of ten thresholds, and one of two objects is found (51 of 101 recalls). Person:
    # the right box is the third.
    car, person = 0.4 * 51 / 101, 1 / 3
    assert found["errors of boxes × 1"] == pytest.approx(50 * (car + person))
    assert found["errors of boxes × 0"] == pytest.approx(50 * (51 / 101 + person))
    assert found["no detection of a wrong class"] == pytest.approx(50 * (car + 1 / 2))
    assert found["no detection of background"] == pytest.approx(50 * (car + 1 / 2))
    assert found["no duplicate"] == found["errors of boxes × 1"]
    assert found["no false detection"] == pytest.approx(50 * (car + 1))
    assert found["objects matched, %"] == pytest.approx(100 * 2 / 3)


def test_boxes_are_compared_on_the_objects_that_all_runs_match():
    objects, _ = objects_and_scorer()
    exact = Found(TRUTH, np.ones(3), CLASSES, np.zeros(3, int), None)
    runs = [ap_limits.of_detections(name, found, objects, 2) for name, found in (("a", detections()), ("b", exact))]
    rows = {(row["run"], row["size"]): row for row in ap_limits.compare_boxes(runs, objects)}
    assert rows["a", "all"]["objects"] == 2
    assert rows["b", "all"]["IoU"] == 100
    assert rows["a", "all"]["IoU"] == pytest.approx(50 * (2 / 3 + 1))
    assert rows["a", "small"]["rms"] == pytest.approx(100 * np.sqrt((0.2**2 * 2) / 8))  # two of eight sides, by 4 of 20
    assert ("a", "tiny") not in rows
