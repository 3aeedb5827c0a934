"""Every protocol compared with a plain reimplementation of its benchmark's code, on cases with many ties and marks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.coco_by_hand import average_precision
from ugs_jax.evaluation import BENCHMARKS, CocoScorer
from ugs_jax.evaluation.coco_files import coco_ground_truth, read_annotations, read_results

# What the benchmarks' evaluators read.
RULES = {
    "coco": {"crowds": ("iscrowd",), "ignores": (), "by_share": False},
    "aitod": {"crowds": ("iscrowd",), "ignores": (), "by_share": False},
    "sodad": {"crowds": (), "ignores": ("ignore",), "by_share": False},
    "tinyperson": {"crowds": ("iscrowd",), "ignores": ("ignore", "uncertain"), "by_share": True},
    "default": {"crowds": ("iscrowd", "ignore", "uncertain"), "ignores": (), "by_share": False},
}


def random_case(seed, images=5, classes=2):
    """Whole numbers on a coarse grid, so that overlaps tie and meet thresholds; few scores; ids in any order."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(images * 3)[:images].tolist()
    annotations, rows = [], []
    for image in ids:
        boxes = []
        for _ in range(rng.integers(0, 9)):
            sides = rng.choice([1, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 44, 64, 96, 120], 2)
            boxes.append([int(side) for side in (*(2 * rng.integers(0, 30, 2)), *sides)])
        for box in boxes:
            area = box[2] * box[3] * (1 if rng.uniform() < 0.8 else float(rng.choice([0.5, 0.8, 1.5])))
            marks = {key: bool(rng.uniform() < 0.15) for key in ("iscrowd", "ignore", "uncertain")}
            category = int(rng.integers(classes)) + 1
            number = len(annotations) + 1
            annotations.append(
                {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, **marks}
            )
            for _ in range(rng.integers(0, 4)):
                near = np.array(box) + rng.choice([-2, 0, 0, 0, 2], 4)
                near[2:] = np.maximum(near[2:], 1) // int(rng.choice([1, 1, 1, 2]))
                near[2:] = np.maximum(near[2:], 1)
                rows.append((image, category, near.tolist()))
        rows += [
            (image, int(rng.integers(classes)) + 1, [*(2 * rng.integers(0, 30, 2)).tolist(), 8, 8])
            for _ in range(rng.integers(0, 5))
        ]
    distinct = [rows[place] for place in rng.permutation(len(rows))]
    scores = rng.choice([0.2, 0.5, 0.5, 0.7, 0.9], len(distinct)).tolist()
    results = {
        (image, category, *box, score): {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for (image, category, box), score in zip(distinct, scores, strict=True)
    }
    content = {
        "images": [{"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 640} for image in ids],
        "categories": [{"id": k + 1, "name": f"class{k}"} for k in range(classes)],
        "annotations": annotations,
    }
    return content, list(results.values())


def scores_of(folder, content, rows, name):
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(rows))
    truth = read_annotations(folder / "truth.json")
    scorer = CocoScorer(coco_ground_truth(truth), BENCHMARKS[name])
    scorer.add(read_results(folder / "found.json", truth))
    return scorer.score()


def expected_scores(content, rows, name):
    protocol, rules = BENCHMARKS[name], RULES[name]

    def mean(which, low, high, cap, thresholds=protocol.iou_thresholds):
        cells = [
            average_precision(content, rows, category["id"], low, min(high, 1e5), t, cap, **rules)
            for category in content["categories"]
            for t in thresholds
        ]
        cells = [cell[which] for cell in cells if cell is not None]
        return float(np.mean(cells)) if cells else None

    low, high = (protocol.scope.low, protocol.scope.high) if protocol.scope else (0.0, 1e5)
    expected = {"ap": mean(0, low, high, protocol.max_detections)}
    expected |= {f"ar{cap}": mean(1, low, high, cap) for cap in protocol.caps}
    for size in protocol.size_bins:
        expected[f"ap_{size.name}"] = mean(0, size.low, size.high, protocol.max_detections)
        for t in protocol.size_thresholds:
            percent = f"ap{round(100 * t)}_{size.name}"
            expected[percent] = mean(0, size.low, size.high, protocol.max_detections, [t])
    return expected


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_a_plain_evaluation(tmp_path, name, seed):
    content, rows = random_case(seed)
    got = scores_of(tmp_path, content, rows, name)
    for key, value in expected_scores(content, rows, name).items():
        # 1e-9: the same ratios of integers, summed in another order.
        assert got[key] == (None if value is None else pytest.approx(value, abs=1e-9)), key


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(10, 10**6), name=st.sampled_from(sorted(RULES)), images=st.integers(1, 8))
def test_scores_equal_a_plain_evaluation_on_any_case(tmp_path_factory, seed, name, images):
    content, rows = random_case(seed, images)
    got = scores_of(tmp_path_factory.mktemp("case"), content, rows, name)
    for key, value in expected_scores(content, rows, name).items():
        assert got[key] == (None if value is None else pytest.approx(value, abs=1e-9)), key


def test_marks_change_the_scores_of_the_protocols_that_read_them():
    """The cases above would say nothing if no detection met a marked object."""
    content, rows = random_case(1)
    plain = json.loads(json.dumps(content))
    for entry in plain["annotations"]:
        entry.update(iscrowd=0, ignore=0, uncertain=0)
    for name in RULES:
        assert expected_scores(content, rows, name)["ap"] != expected_scores(plain, rows, name)["ap"], name


def person(number, bbox, **marks):
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3], **marks}


def one_image(*annotations):
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 512}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": list(annotations),
    }


@pytest.mark.parametrize("mark", ["ignore", "uncertain", "iscrowd"])
def test_tiny_person_ignores_what_lies_in_a_marked_object(tmp_path, mark):
    content = one_image(person(1, [10, 10, 10, 10]), person(2, [300, 300, 200, 100], **{mark: True}))
    rows = [{"image_id": 1, "category_id": 1, "bbox": [320 + 20 * i, 320, 10, 10], "score": 0.9} for i in range(3)] + [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10], "score": 0.5}
    ]
    assert scores_of(tmp_path, content, rows, "tinyperson")["ap50_tiny"] == pytest.approx(1.0)


def test_tiny_person_ignores_what_lies_in_an_object_of_another_size(tmp_path):
    content = one_image(person(1, [100, 100, 10, 10]), person(2, [300, 100, 30, 30]))
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": [300, 100, 15, 15], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [100, 100, 10, 10], "score": 0.5},
    ]
    got = scores_of(tmp_path, content, rows, "tinyperson")
    assert got["ap50_tiny"] == pytest.approx(1.0)
    assert got["ap50_small"] == 0.0


def test_an_ignored_object_of_soda_d_takes_one_detection_and_a_crowd_is_an_object(tmp_path):
    content = one_image(person(1, [10, 10, 10, 10]), person(2, [50, 50, 10, 10], ignore=1))
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": [50, 50, 10, 10], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [50, 50, 10, 9], "score": 0.8},
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10], "score": 0.5},
    ]
    assert scores_of(tmp_path, content, rows, "sodad")["ap50"] == pytest.approx(0.5)
    content["annotations"][1] = person(2, [50, 50, 10, 10], iscrowd=1)
    assert scores_of(tmp_path, content, [rows[0], rows[2]], "sodad")["ar1000"] == pytest.approx(1.0)
    assert scores_of(tmp_path, content, rows[:1], "sodad")["ar1000"] == pytest.approx(0.5)


def test_coco_reads_iscrowd_only(tmp_path):
    content = one_image(person(1, [10, 10, 10, 10]), person(2, [50, 50, 10, 10], ignore=1))
    rows = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10], "score": 0.9}]
    assert scores_of(tmp_path, content, rows, "coco")["ar100"] == pytest.approx(0.5)
    assert scores_of(tmp_path, content, rows, "default")["ar500"] == pytest.approx(1.0)
