"""COCO scores against hand-built cases and an independent NumPy evaluation."""

import math
import types

import numpy as np
import pytest

from ugs_jax.evaluation import CocoScorer, Protocol, SizeBin


class Scenes:
    """A data set in memory: per image (boxes, labels, ignore)."""

    def __init__(self, images, classes=("car", "person")):
        self.images = images
        self.classes = classes
        self.name, self.split = "scenes", "val"

    def __len__(self):
        return len(self.images)

    def annotations(self, i):
        boxes, labels, ignore = self.images[i]
        return types.SimpleNamespace(
            boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
            classes=np.asarray(labels, np.int32),
            ignore=np.asarray(ignore, np.float32).reshape(-1, 4),
            height=640,
            width=640,
        )


def row(image_id, label, box, score):
    x, y, right, bottom = (float(v) for v in box)
    return {"image_id": image_id, "category_id": label + 1, "bbox": [x, y, right - x, bottom - y], "score": score}


def score(images, rows, protocol=Protocol(), **kwargs):  # noqa: B008
    scorer = CocoScorer(Scenes(images, **kwargs), protocol)
    scorer.add(rows)
    return scorer.score()


# ---- an independent evaluation, written from the definition: no sharing of code or data layout with the library


def overlap(found, truth, crowd):
    width = min(found[2], truth[2]) - max(found[0], truth[0])
    height = min(found[3], truth[3]) - max(found[1], truth[1])
    both = max(width, 0) * max(height, 0)
    area_found = (found[2] - found[0]) * (found[3] - found[1])
    area_truth = (truth[2] - truth[0]) * (truth[3] - truth[1])
    return both / (area_found if crowd else area_found + area_truth - both)


def reference_ap(images, rows, label, threshold, low, high, cap):
    """AP at 101 recall points and final recall for one class, threshold and size range; None without objects."""
    outcomes, objects = [], 0  # outcomes: (score, is it right), ignored ones left out
    for index, (boxes, labels, ignore) in enumerate(images):
        truths = [
            (b, not low**2 <= (b[2] - b[0]) * (b[3] - b[1]) <= high**2, False)
            for b, k in zip(boxes, labels, strict=True)
            if k == label
        ]
        truths += [(b, True, True) for b in ignore]
        truths.sort(key=lambda t: t[1])  # the objects that count come first
        objects += sum(not ignored for _, ignored, _ in truths)
        found = [r for r in rows if r["image_id"] == index and r["category_id"] == label + 1]
        taken = set()
        for r in sorted(found, key=lambda r: -r["score"])[:cap]:
            x, y, w, h = r["bbox"]
            best, best_overlap = None, threshold
            for j, (truth, ignored, crowd) in enumerate(truths):
                if j in taken and not crowd:
                    continue
                if best is not None and not truths[best][1] and ignored:
                    break  # an object that counts is never given up for an ignored one
                value = overlap((x, y, x + w, y + h), truth, crowd)
                if value >= best_overlap:
                    best, best_overlap = j, value
            if best is None:
                if low**2 <= w * h <= high**2:
                    outcomes.append((r["score"], False))
                continue
            taken.add(best)
            if not truths[best][1]:
                outcomes.append((r["score"], True))
    if not objects:
        return None
    outcomes.sort(key=lambda o: -o[0])
    right, precision, recall = 0, [], []
    for n, (_, is_right) in enumerate(outcomes, start=1):
        right += is_right
        precision.append(right / n)
        recall.append(right / objects)
    points = [
        max((p for p, r in zip(precision, recall, strict=True) if r >= point), default=0.0)
        for point in np.linspace(0, 1, 101)
    ]
    return float(np.mean(points)), (recall[-1] if recall else 0.0)


def reference_scores(images, rows, protocol, classes):
    def mean(low, high, thresholds, which):
        values = [
            reference_ap(images, rows, k, t, low, high, protocol.max_detections)
            for k in range(classes)
            for t in thresholds
        ]
        values = [v[which] for v in values if v is not None]
        return float(np.mean(values)) if values else None

    everything = (0, 1e5)
    expected = {
        "ap": mean(*everything, protocol.iou_thresholds, 0),
        "ap50": mean(*everything, [0.5], 0),
        "ap75": mean(*everything, [0.75], 0),
        f"ar{protocol.max_detections}": mean(*everything, protocol.iou_thresholds, 1),
    }
    for size in protocol.size_bins:
        expected[f"ap_{size.name}"] = mean(size.low, min(size.high, 1e5), protocol.iou_thresholds, 0)
    return expected


def random_case(seed, classes=2, images=4):
    """Crowded images, ignore regions, detections around objects and in the open; scores all different."""
    rng = np.random.default_rng(seed)

    def boxes(n, low, high):
        corner = rng.uniform(0, 80, (n, 2))
        return np.concatenate([corner, corner + np.exp(rng.uniform(math.log(low), math.log(high), (n, 2)))], -1)

    case, rows = [], []
    for i in range(images):
        truth = boxes(rng.integers(0, 12), 3, 130).astype(np.float32).astype(np.float64)
        labels = rng.integers(0, classes, len(truth))
        ignore = boxes(rng.integers(0, 3), 20, 60).astype(np.float32).astype(np.float64)
        case.append((truth, labels, ignore))
        near = np.repeat(truth, 2, 0)
        near = near + rng.normal(0, 0.08, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
        found = np.concatenate([near, boxes(6, 3, 130)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        given = np.concatenate([np.repeat(labels, 2), rng.integers(0, classes, 6)])
        rows += [
            row(i, int(k), b, float(s)) for b, k, s in zip(found, given, rng.uniform(size=len(found)), strict=True)
        ]
    return case, rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cap", [3, 500])
def test_scores_equal_an_independent_evaluation(seed, cap):
    protocol = Protocol(max_detections=cap)
    images, rows = random_case(seed)
    got = score(images, rows, protocol)
    # 1e-9: the same ratios of integers, summed in another order.
    for key, expected in reference_scores(images, rows, protocol, classes=2).items():
        assert got[key] == pytest.approx(expected, abs=1e-9), key


def test_random_cases_have_scores_far_from_0_and_1():
    values = [score(*random_case(seed))["ap"] for seed in range(6)]
    assert all(0.05 < value < 0.95 for value in values)


OBJECTS = [[10, 10, 16, 16], [30, 30, 42, 42], [60, 60, 84, 84], [200, 200, 250, 250], [300, 300, 420, 420]]


def test_perfect_detections_score_one_at_every_size():
    got = score([(OBJECTS, [0] * 5, [])], [row(0, 0, box, 0.9) for box in OBJECTS])
    sizes = ["very_tiny", "tiny", "small", "medium", "coco_small", "coco_medium", "coco_large"]
    for key in ["ap", "ap50", "ap75", "ar500", "ap/car", *(f"ap_{size}" for size in sizes)]:
        assert got[key] == pytest.approx(1.0), key
    assert got["ap/person"] is None


def test_no_detections_score_zero():
    got = score([(OBJECTS, [0] * 5, [])], [])
    assert got["ap"] == 0.0
    assert got["ap50"] == 0.0
    assert got["ar500"] == 0.0
    assert got["ap_very_tiny"] == 0.0


def test_sizes_without_objects_have_no_score():
    got = score([([[10, 10, 20, 20]], [0], [])], [row(0, 0, [10, 10, 20, 20], 0.9)])
    assert got["ap_tiny"] == pytest.approx(1.0)
    assert got["ap_very_tiny"] is None
    assert got["ap_medium"] is None
    assert got["ap_coco_large"] is None


def test_a_data_set_without_objects_has_no_score():
    got = score([([], [], [])], [row(0, 0, [10, 10, 20, 20], 0.9)])
    assert set(got.values()) == {None}


def test_detections_inside_an_ignore_region_are_neither_right_nor_wrong():
    box, region = [10, 10, 20, 20], [100, 100, 200, 200]
    wrong = [row(0, label, [110 + 20 * i, 110, 120 + 20 * i, 120], 0.95) for i in range(3) for label in (0, 1)]
    images = [([box, box], [0, 1], [region])]
    right = [row(0, 0, box, 0.9), row(0, 1, box, 0.9)]
    assert score(images, right + wrong)["ap"] == pytest.approx(1.0)
    assert score([([box, box], [0, 1], [])], right + wrong)["ap"] < 0.5


def test_a_detection_half_inside_an_ignore_region_is_excused_only_up_to_that_threshold():
    box = [10, 10, 20, 20]
    images = [([box], [0], [[100, 0, 200, 200]])]
    rows = [row(0, 0, box, 0.5), row(0, 0, [94, 50, 104, 60], 0.9)]  # 40 % inside
    assert score(images, rows, Protocol(iou_thresholds=(0.4,)))["ap"] == pytest.approx(1.0)
    assert score(images, rows, Protocol(iou_thresholds=(0.41,)))["ap"] == pytest.approx(0.5)


def test_more_than_a_hundred_detections_of_an_image_count():
    boxes = [[4 * i, 4 * j, 4 * i + 3, 4 * j + 3] for i in range(15) for j in range(20)]
    rows = [row(0, 0, box, 0.9 - 0.001 * i) for i, box in enumerate(boxes)]
    images = [(boxes, [0] * 300, [])]
    assert score(images, rows)["ar500"] == pytest.approx(1.0)
    assert score(images, rows, Protocol(max_detections=100))["ar100"] == pytest.approx(1 / 3)


def test_an_object_on_the_edge_of_two_size_bins_counts_in_both():
    box = [0, 0, 16, 16]
    got = score([([box], [0], [])], [row(0, 0, box, 0.9)])
    assert got["ap_tiny"] == pytest.approx(1.0)
    assert got["ap_small"] == pytest.approx(1.0)


def test_scoring_again_after_reset_gives_the_new_detections_score():
    scorer = CocoScorer(Scenes([([[10, 10, 20, 20]], [0], [])]))
    scorer.add([row(0, 0, [10, 10, 20, 20], 0.9)])
    first = scorer.score()
    assert scorer.score() == first
    assert first["ap"] == pytest.approx(1.0)
    scorer.reset()
    assert scorer.rows == []
    assert scorer.score()["ap"] == 0.0
    scorer.add([row(0, 0, [10, 10, 20, 20], 0.9)])
    assert scorer.score() == first


def test_scoring_does_not_change_the_result_rows():
    scorer = CocoScorer(Scenes([([[10, 10, 20, 20]], [0], [])]))
    given = row(0, 0, [10, 10, 20, 20], 0.9)
    scorer.add([given])
    scorer.score()
    assert scorer.rows == [row(0, 0, [10, 10, 20, 20], 0.9)]
    assert set(given) == {
        "image_id",
        "category_id",
        "bbox",
        "score",
    }


def test_an_unknown_image_is_refused():
    with pytest.raises(ValueError, match=r"image_id 3: expected 0…0.*score on the data set"):
        score([(OBJECTS, [0] * 5, [])], [row(3, 0, [0, 0, 1, 1], 0.9)])


def test_an_unknown_category_is_refused():
    with pytest.raises(ValueError, match=r"category_id 3 \(image 0\): expected 1…2"):
        score([(OBJECTS, [0] * 5, [])], [row(0, 2, [0, 0, 1, 1], 0.9)])


def test_a_class_index_outside_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"image 1: expected class indices 0…1, got 2"):
        CocoScorer(Scenes([([], [], []), ([[0, 0, 5, 5]], [2], [])]))


def test_the_protocol_describes_itself_in_one_line():
    line = Protocol().describe()
    assert "\n" not in line
    for part in ["0.50:0.05:0.95", "500 detections", "very tiny 0–8", "medium 32–64", "coco large >96", "crowds"]:
        assert part in line
    assert "IoU 0.50, 0.75," in Protocol(iou_thresholds=(0.5, 0.75)).describe()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iou_thresholds": ()}, "iou_thresholds: expected increasing"),
        ({"iou_thresholds": (0.7, 0.5)}, "iou_thresholds: expected increasing"),
        ({"iou_thresholds": (0.0, 0.5)}, "iou_thresholds: expected increasing"),
        ({"max_detections": 0}, "max_detections: expected at least 1, got 0"),
        ({"size_bins": (SizeBin("a", 0.0, 1.0), SizeBin("a", 1.0, 2.0))}, "size_bins: expected unique names"),
    ],
)
def test_an_invalid_protocol_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**fields)


def test_a_size_bin_with_exchanged_ends_is_refused():
    with pytest.raises(ValueError, match=r"SizeBin 'tiny': expected 0 <= low < high, got low=16.0, high=8.0"):
        SizeBin("tiny", 16.0, 8.0)
