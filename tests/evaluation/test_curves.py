"""Curves over the confidence, confusion with background, errors of images, and calibration, beside plain loops."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.reference.coco_by_hand import match_image, overlap
from ugs_jax.evaluation import CocoScorer, ImageDetections, coco_rows
from ugs_jax.evaluation.confusion import confusion_matrix, errors_by_image
from ugs_jax.evaluation.curves import average_precision_101, precision_recall, thinned
from ugs_jax.evaluation.matching import above, all_detections, all_objects, match_any_class, match_in_class
from ugs_jax.evaluation.reliability import reliability

CLASSES = ("car", "person", "boat")


class Images:
    """Annotated images, as many as `examples`."""

    classes = CLASSES

    def __init__(self, *examples):
        self.examples = [
            SimpleNamespace(
                boxes=np.array(boxes, np.float32).reshape(-1, 4),
                classes=np.array(labels, np.int32),
                ignore=np.array(ignore, np.float32).reshape(-1, 4),
                height=100,
                width=100,
            )
            for boxes, labels, ignore in examples
        ]

    def __len__(self):
        return len(self.examples)

    def annotations(self, index):
        return self.examples[index]


def detected(boxes, scores, labels, deviation=None):
    return ImageDetections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int32), deviation
    )


def crowded(seed, images=12):
    """Images with many objects, ignore regions and detections near them, some in the wrong class."""
    rng, examples, found = np.random.default_rng(seed), [], []
    for index in range(images):
        n = int(rng.integers(0, 8))
        boxes = np.concatenate([corner := rng.uniform(0, 70, (n, 2)), corner + rng.uniform(6, 28, (n, 2))], 1)
        labels = rng.integers(0, 3, n)
        corner = rng.uniform(0, 60, (2, 2))
        examples.append((boxes, labels, np.concatenate([corner, corner + 30], 1)))
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 2.0, (2 * n, 4))
        away = np.concatenate([corner := rng.uniform(0, 80, (5, 2)), corner + rng.uniform(4, 20, (5, 2))], 1)
        other = np.concatenate([np.where(rng.random(2 * n) < 0.7, np.repeat(labels, 2), rng.integers(0, 3, 2 * n))])
        both = np.concatenate([near, away])
        found.append((index, detected(both, rng.random(len(both)), [*other, *rng.integers(0, 3, 5)])))
    return Images(*examples), found


def curve_of_class(images, found, k):
    objects, flat = all_objects(images), all_detections(found, 3)
    matches = match_in_class(objects, flat, 3)
    of_class = (flat.classes == k) & ~matches.ignored
    return precision_recall(flat.scores[of_class], matches.right[of_class], int(np.sum(objects.classes == k)))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_of_the_curves_is_cocos(seed):
    images, found = crowded(seed)
    scorer = CocoScorer(images)
    scorer.add([row for index, image in found for row in coco_rows(index, image)])
    mean = np.mean([average_precision_101(curve_of_class(images, found, k)) for k in range(3)])
    assert mean == pytest.approx(scorer.score()["ap50"], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_those_of_plain_loops_at_every_confidence(seed):
    images, found = crowded(seed)
    for k in range(3):
        curve = curve_of_class(images, found, k)
        for i in range(0, len(curve.confidence), 7):
            right = wrong = total = 0
            for index, image in found:
                truth = images.annotations(index)
                objects = [xywh(box) for box, label in zip(truth.boxes, truth.classes, strict=True) if label == k]
                objects += [{**xywh(box), "iscrowd": 1} for box in truth.ignore]
                rows = sorted(zip(image.scores, image.boxes, image.classes, strict=True), key=lambda row: -row[0])
                rows = [xywh(box) for score, box, label in rows if label == k and score >= curve.confidence[i]]
                outcomes, count = match_image(
                    objects, rows, 0, 1e5, 0.5, crowds=("iscrowd",), ignores=(), by_share=False
                )
                right, wrong, total = right + outcomes.count("right"), wrong + outcomes.count("wrong"), total + count
            assert curve.precision[i] == pytest.approx(right / (right + wrong))
            assert curve.recall[i] == pytest.approx(right / total)
            assert curve.f1[i] == pytest.approx(2 * right / (right + wrong + total))


def xywh(box):
    x, y, right, bottom = (float(side) for side in box)
    return {"bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)}


def test_the_best_f1_is_at_the_highest_of_equal_confidences():
    curve = precision_recall(np.array([0.9, 0.5, 0.5, 0.2]), np.array([True, True, False, False]), 2)
    np.testing.assert_allclose(curve.confidence, [0.9, 0.5, 0.2])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(curve.recall, [0.5, 1, 1])
    np.testing.assert_allclose(curve.f1, [2 / 3, 4 / 5, 2 / 3])
    assert curve.best == 1


def test_without_detections_or_right_ones_there_is_no_best_confidence():
    assert precision_recall(np.zeros(0), np.zeros(0, bool), 3).best is None
    assert precision_recall(np.array([0.5]), np.array([False]), 3).best is None
    assert precision_recall(np.array([0.5]), np.array([False]), 0).best is None
    assert average_precision_101(precision_recall(np.zeros(0), np.zeros(0, bool), 3)) == 0.0


def test_a_thinned_curve_keeps_its_ends_and_the_best_f1():
    rng = np.random.default_rng(0)
    scores = rng.random(5000) ** 4
    whole = precision_recall(scores, rng.random(5000) < scores, 2000)
    few = thinned(whole)
    assert len(few.confidence) <= 210
    assert few.f1.max() == whole.f1.max()
    assert (few.confidence[0], few.recall[-1]) == (whole.confidence[0], whole.recall[-1])
    # Between the kept points, neither axis has a gap above one hundredth.
    assert np.diff(few.recall).max() < 0.011
    assert set(few.confidence) <= set(whole.confidence)


def test_confusion_counts_classes_background_and_leaves_out_ignore_regions():
    images = Images(
        ([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], [0, 1, 2], [[70, 70, 100, 100]]),
        ([], [], []),
    )
    found = [
        (
            0,
            detected(
                [[0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 29], [80, 80, 90, 90], [40, 0, 50, 10], [1, 0, 11, 10]],
                [0.9, 0.5, 0.8, 0.7, 0.6, 0.1],
                [1, 0, 1, 0, 2, 0],
            ),
        ),
        (1, detected([[5, 5, 15, 15]], [0.55], [0])),
    ]
    objects, flat = all_objects(images), above(all_detections(found, 3), 0.3)
    matches = match_any_class(objects, flat)
    # The exact box takes the car although another detection has a higher score, which then is false.
    np.testing.assert_array_equal(
        confusion_matrix(objects, flat, matches, 3), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 0]]
    )
    errors = errors_by_image(objects, flat, matches, 2)
    assert [part.tolist() for part in errors] == [[2, 0], [0, 0], [1, 0], [2, 1]]
    assert errors.total.tolist() == [3, 1]


def test_of_one_box_in_two_classes_the_better_score_takes_the_object():
    images = Images(([[0, 0, 10, 10]], [1], []))
    objects = all_objects(images)
    flat = all_detections([(0, detected([[0, 0, 10, 10]] * 2, [0.4, 0.6], [1, 0]))], 3)
    matrix = confusion_matrix(objects, flat, match_any_class(objects, flat), 3)
    assert matrix[1, 0] == 1  # person taken for a car
    assert matrix[3, 1] == 1  # and the second detection finds background


@pytest.mark.parametrize("seed", range(4))
def test_confusion_is_that_of_plain_loops(seed):
    images, found = crowded(seed)
    objects, flat = all_objects(images), above(all_detections(found, 3), 0.4)
    matches = match_any_class(objects, flat)
    expected, errors = np.zeros((4, 4), int), []
    for index, image in found:
        truth = images.annotations(index)
        has_area = (image.boxes[:, 2:] > image.boxes[:, :2]).all(1)
        kept = [i for i in range(len(image.scores)) if image.scores[i] >= 0.4 and has_area[i]]
        box = lambda b: xywh(b)["bbox"]  # noqa: E731
        pairs = [
            (overlap(box(image.boxes[i]), box(truth.boxes[j]), crowd=False), i, j)
            for i in kept
            for j in range(len(truth.boxes))
        ]
        used, hit, confused = set(), set(), 0
        for value, i, j in sorted(pairs, reverse=True):
            if value >= 0.5 and i not in used and j not in hit:
                used.add(i), hit.add(j)
                expected[truth.classes[j], image.classes[i]] += 1
                confused += truth.classes[j] != image.classes[i]
        false = [
            i
            for i in kept
            if i not in used
            and not any(overlap(box(image.boxes[i]), box(region), crowd=True) >= 0.5 for region in truth.ignore)
        ]
        for i in false:
            expected[3, image.classes[i]] += 1
        for j in set(range(len(truth.boxes))) - hit:
            expected[truth.classes[j], 3] += 1
        errors.append((len(hit) - confused, confused, len(truth.boxes) - len(hit), len(false)))
    np.testing.assert_array_equal(confusion_matrix(objects, flat, matches, 3), expected)
    np.testing.assert_array_equal(np.stack(errors_by_image(objects, flat, matches, len(images)), 1), errors)


def test_of_each_image_and_class_only_the_best_detections_count():
    boxes = [[0, 0, 5 + i, 5] for i in range(4)]
    flat = all_detections([(3, detected(boxes, [0.1, 0.4, 0.3, 0.2], [0, 0, 0, 1]))], 3, max_detections=2)
    np.testing.assert_allclose(flat.scores, np.float32([0.4, 0.3, 0.2]))
    assert flat.images.tolist() == [3, 3, 3]


def test_a_class_that_the_data_set_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"expected class indices 0…2, got 0…3; use a detector with the classes"):
        all_detections([(0, detected([[0, 0, 1, 1]] * 2, [0.5, 0.5], [0, 3]))], 3)


def test_scores_that_equal_precision_are_calibrated_and_others_are_off_by_their_gap():
    scores = np.array([0.25, 0.25, 0.25, 0.25, 0.85, 0.85])
    right = np.array([True, False, False, False, True, False])
    found = reliability(scores, right)
    assert found.count.tolist() == [0, 0, 4, 0, 0, 0, 0, 0, 2, 0]
    np.testing.assert_allclose(found.confidence[[2, 8]], [0.25, 0.85])
    np.testing.assert_allclose(found.precision[[2, 8]], [0.25, 0.5])
    assert found.error == pytest.approx(0.35 * 2 / 6)
    assert np.isnan(found.precision[0])
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)
    assert reliability(np.array([1.0]), np.array([True])).count[-1] == 1
