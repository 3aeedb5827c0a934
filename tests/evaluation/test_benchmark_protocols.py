"""Rules of the protocols of COCO, AI-TOD, SODA-D and TinyPerson."""

import types

import numpy as np
import pytest

from tests.evaluation import test_coco_scoring as by_hand
from tests.reference.coco_by_hand import average_precision
from ugs_jax.evaluation import AI_TOD, BENCHMARKS, COCO, SODA_D, TINY_PERSON, CocoScorer, Protocol


class OneImage:
    classes = ("object",)

    def __init__(self, boxes, ignore=()):
        self.boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        self.ignore = np.asarray(ignore, np.float32).reshape(-1, 4)

    def __len__(self):
        return 1

    def annotations(self, index):
        labels = np.zeros(len(self.boxes), np.int32)
        return types.SimpleNamespace(boxes=self.boxes, classes=labels, ignore=self.ignore, height=4000, width=4000)


def score(protocol, boxes, found, ignore=()):
    """Scores of detections (left, top, right, bottom), best first."""
    scorer = CocoScorer(OneImage(boxes, ignore), protocol)
    for place, (left, top, right, bottom) in enumerate(found):
        box = [float(left), float(top), float(right - left), float(bottom - top)]
        scorer.add([{"image_id": 0, "category_id": 1, "bbox": box, "score": 1 - place / 10_000}])
    return scorer.score()


def square(place, side):
    left, top = 60 * (place % 60), 60 * (place // 60)
    return [left, top, left + side, top + side]


def test_recall_is_reported_at_every_cap():
    boxes = [square(i, 20) for i in range(200)]
    got = score(COCO, boxes, boxes)
    assert got["ar1"] == pytest.approx(1 / 200)
    assert got["ar10"] == pytest.approx(10 / 200)
    assert got["ar100"] == pytest.approx(100 / 200)
    assert got["ap"] == pytest.approx(101 / 202, abs=0.01)  # recall ends at ½
    assert [key for key in got if key.startswith("ar")] == ["ar1", "ar10", "ar100"]


def test_ai_tod_counts_fifteen_hundred_detections():
    boxes = [square(i, 12) for i in range(1600)]
    got = score(AI_TOD, boxes, boxes)
    assert got["ar1500"] == pytest.approx(1500 / 1600)
    assert got["ar100"] == pytest.approx(100 / 1600)
    assert got["ap_tiny"] == pytest.approx(94 / 101)  # recall points 0, .01, …, .93: it ends at .9375
    assert got["ap_medium"] is None


@pytest.mark.parametrize("protocol", [COCO, AI_TOD, SODA_D, TINY_PERSON], ids=lambda protocol: protocol.name)
def test_scores_of_a_data_set_equal_an_independent_evaluation(protocol):
    """Ignore regions of a data set belong to every class: crowds of COCO and AI-TOD, ignored objects of the others."""
    images, rows = by_hand.random_case(seed=11, images=6)
    mark = "iscrowd" if protocol in (COCO, AI_TOD) else "ignore"
    content = as_coco_file(images, mark)
    rules = {"crowds": ("iscrowd",), "ignores": ("ignore",), "by_share": protocol is TINY_PERSON}

    def mean(which, low, high, cap, thresholds=protocol.iou_thresholds):
        cells = [
            average_precision(content, rows, category, low, min(high, 1e5), t, cap, **rules)
            for category in (1, 2)
            for t in thresholds
        ]
        cells = [cell[which] for cell in cells if cell is not None]
        return float(np.mean(cells)) if cells else None

    got, most = by_hand.score(images, rows, protocol), protocol.max_detections
    low, high = (protocol.scope.low, protocol.scope.high) if protocol.scope else (0.0, 1e5)
    expected = {"ap": mean(0, low, high, most), "ap50": mean(0, low, high, most, [0.5])}
    expected |= {f"ar{cap}": mean(1, low, high, cap) for cap in protocol.caps}
    for size in protocol.size_bins:
        expected[f"ap_{size.name}"] = mean(0, size.low, size.high, most)
        for t in protocol.size_thresholds:
            expected[f"ap{round(100 * t)}_{size.name}"] = mean(0, size.low, size.high, most, [t])
    assert 0.05 < expected["ap"] < 0.95
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, abs=1e-9), key  # the same ratios of integers, summed in another order


def as_coco_file(images, mark):
    annotations = []
    for index, (boxes, labels, regions) in enumerate(images):
        entries = [(box, [label + 1], {}) for box, label in zip(boxes, labels, strict=True)]
        entries += [(box, [1, 2], {mark: 1}) for box in regions]
        for (left, top, right, bottom), categories, marks in entries:
            bbox = [left, top, right - left, bottom - top]
            annotations += [
                {"image_id": index, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], **marks}
                for category in categories
            ]
    return {"images": [{"id": index} for index in range(len(images))], "annotations": annotations}


SIDES = {
    COCO: {"small": 31, "medium": 60, "large": 100},
    AI_TOD: {"very_tiny": 7, "tiny": 12, "small": 30, "medium": 300},
    SODA_D: {"extremely_small": 11, "relatively_small": 15, "generally_small": 25, "normal": 40},
    TINY_PERSON: {"tiny1": 5, "tiny2": 10, "tiny3": 15, "small": 25, "reasonable": 50},
}


@pytest.mark.parametrize("protocol", SIDES, ids=lambda protocol: protocol.name)
def test_an_object_counts_in_the_bin_of_its_size(protocol):
    for name, side in SIDES[protocol].items():
        got = score(protocol, [[0, 0, side, side]], [[0, 0, side, side]])
        scored = {key for key, value in got.items() if key.startswith("ap_") and value is not None}
        assert scored - {"ap_tiny"} == {f"ap_{name}"} - {"ap_tiny"}
        assert got[f"ap_{name}"] == pytest.approx(1.0)


def test_tiny_in_tiny_person_is_the_union_of_its_three_bins():
    for side in (5, 10, 15):
        assert score(TINY_PERSON, [[0, 0, side, side]], [[0, 0, side, side]])["ap50_tiny"] == pytest.approx(1.0)
    assert score(TINY_PERSON, [[0, 0, 25, 25]], [[0, 0, 25, 25]])["ap50_tiny"] is None


def test_soda_d_scores_only_objects_of_at_most_1024_px2_except_in_the_bin_above():
    small, normal, large = [0, 0, 20, 20], [100, 100, 140, 140], [200, 200, 300, 300]
    got = score(SODA_D, [small, normal, large], [normal, large, small])
    assert (
        got["ap"] == got["ap/object"] == got["ar1000"] == pytest.approx(1.0)
    )  # neither right nor wrong: the larger two
    assert score(SODA_D, [small, normal], [normal])["ap"] == 0.0
    assert score(SODA_D, [small, normal], [normal])["ap_normal"] == pytest.approx(1.0)
    assert score(SODA_D, [normal], [normal])["ap"] is None


def test_tiny_person_has_a_score_for_each_threshold_and_size():
    # Two squares of 10 px, 4 px apart: 60 of 140 px² in common, an IoU of .43.
    got = score(TINY_PERSON, [[0, 0, 10, 10]], [[4, 0, 14, 10]])
    assert (got["ap25"], got["ap50"], got["ap75"]) == (pytest.approx(1.0), 0.0, 0.0)
    assert (got["ap25_tiny2"], got["ap50_tiny2"], got["ap25_tiny1"]) == (pytest.approx(1.0), 0.0, None)
    assert got["ap_tiny2"] == pytest.approx(1 / 3)


def test_tiny_person_ignores_detections_by_their_covered_share():
    # 3 of the 10 px of the false detection lie in the ignored region: enough at .25 only.
    got = score(TINY_PERSON, [[0, 0, 10, 10]], [[93, 50, 103, 60], [0, 0, 10, 10]], ignore=[[100, 0, 200, 200]])
    assert got["ap25"] == pytest.approx(1.0)
    assert got["ap50"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("coco", ["COCO AP", "0.50:0.05:0.95", "at most 100 ", "recall also at 1, 10", "small 0–32", "large >96"]),
        ("aitod", ["AI-TOD AP", "at most 1500 ", "recall also at 1, 100", "very tiny 0–8", "medium >32"]),
        ("sodad", ["SODA-D AP", "objects of small 0–32 only", "recall also at 100, 300", "normal 32–44.7214"]),
        ("tinyperson", ["TinyPerson AP", "IoU 0.25:0.25:0.75", "at most 200 ", "tiny 1–20", "reasonable >32"]),
    ],
)
def test_a_protocol_says_what_it_counts(name, parts):
    line = BENCHMARKS[name].describe()
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recall_caps": (10, 1)}, "recall_caps: expected increasing numbers from 1, below max_detections=500"),
        ({"recall_caps": (500,)}, "recall_caps: expected increasing numbers"),
        ({"recall_caps": (0,)}, "recall_caps: expected increasing numbers"),
        ({"size_thresholds": (0.3,)}, r"size_thresholds: expected some of .*, got \(0.3,\)"),
    ],
)
def test_an_invalid_protocol_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**fields)
