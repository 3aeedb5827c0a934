"""COCO results and data sets of detections, as their readers take them."""

import importlib
import json

import pytest

from tests.report.found import BOXES, IDS, dataset, found, results, score, write
from ugs_jax.evaluation.coco_categories import COCO_CATEGORY_IDS


def test_coco_results_have_xywh_category_ids_and_names(tmp_path):
    written = write(tmp_path, [found(scores=(0.5, 0.9), deviation=[[1, 2, 3, 4], [5, 6, 7, 8.0625]])], "coco")
    assert written.files == {"coco": tmp_path / "predictions.json"}
    assert results(tmp_path) == [
        {
            "image_id": "a",
            "file_name": "a.jpg",
            "category_id": 7,
            "class": "bus",
            "bbox": [60.5, 60.0, 4.5, 6.25],
            "score": 0.9,
            "deviation": [5.0, 6.0, 7.0, 8.062],
        },
        {
            "image_id": "a",
            "file_name": "a.jpg",
            "category_id": 3,
            "class": "car",
            "bbox": [10.0, 20.0, 20.0, 25.0],
            "score": 0.5,
            "deviation": [1.0, 2.0, 3.0, 4.0],
        },
    ]


@pytest.mark.parametrize(
    ("file_name", "image_id"),
    [
        ("a.jpg", "a"),
        ("b/a.jpg", "b/a"),
        ("000000000139.jpg", 139),
        ("²3.jpg", "²3"),
        ("../../etc/passwd", "etc/passwd"),
        ("C:\\drone\\x y.jpg", "drone/x y"),
    ],
)
def test_image_ids_are_names_without_suffix_and_numbers_where_coco_has_them(tmp_path, file_name, image_id):
    write(tmp_path, [found(file_name)], "coco")
    assert {row["image_id"] for row in results(tmp_path)} == {image_id}


def test_rows_are_lines_so_that_errors_can_name_them(tmp_path):
    write(tmp_path, [found(), found("b.jpg")], "coco")
    lines = (tmp_path / "predictions.json").read_text().splitlines()
    assert [line[:12] for line in lines] == ["[", *['{"image_id":'] * 4, "]"]


@pytest.fixture
def truth(tmp_path):
    images = ["two/b.jpg", "one/a.jpg", "one/007.jpg", "one/empty.jpg"]
    numbers = {name: 50 - index for index, name in enumerate(images)}
    content = {
        "images": [{"id": key, "file_name": name, "width": 200, "height": 100} for name, key in numbers.items()],
        "categories": [{"id": 7, "name": "bus"}, {"id": 3, "name": "car"}],
        "annotations": [],
    }
    for name in images[:3]:
        for (x1, y1, x2, y2), category in zip(BOXES, IDS, strict=True):
            key = len(content["annotations"]) + 1
            box = [x1, y1, x2 - x1, y2 - y1]
            content["annotations"].append(
                {"id": key, "image_id": numbers[name], "category_id": category, "bbox": box, "area": box[2] * box[3]}
            )
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return tmp_path / "truth.json"


def test_ugs_score_takes_the_results_unchanged(tmp_path, truth, capsys):
    names = ("one/007.jpg", "one/a.jpg", "one/empty.jpg", "two/b.jpg")
    perfect = [found(name, boxes=[] if "empty" in name else BOXES) for name in names]
    write(tmp_path / "good", perfect, "coco")
    assert score(capsys, tmp_path / "good/predictions.json", truth)["ap"] == pytest.approx(1)
    mixed = [found(name, classes=(1, 0)) if "b" in name else each for name, each in zip(names, perfect, strict=True)]
    write(tmp_path / "mixed", mixed, "coco")
    got = score(capsys, tmp_path / "mixed/predictions.json", truth)
    # By hand: two of three objects of each class are found; the boxes of b.jpg have each other's class.
    assert got["ar100"] == pytest.approx(2 / 3)
    write(tmp_path / "none", [found("one/a.jpg", boxes=[])], "coco")
    assert score(capsys, tmp_path / "none/predictions.json", truth)["ap"] == 0


def test_numbers_in_file_names_are_not_taken_for_the_ids_of_other_images(tmp_path, truth, capsys):
    content = json.loads(truth.read_text())
    swapped = {"two/b.jpg": 1, "one/a.jpg": 2, "one/007.jpg": 3, "one/empty.jpg": 4}
    names = {"two/b.jpg": "4.jpg", "one/a.jpg": "1.jpg", "one/007.jpg": "2.jpg", "one/empty.jpg": "3.jpg"}
    before = {image["id"]: image["file_name"] for image in content["images"]}
    for image in content["images"]:
        image["id"], image["file_name"] = swapped[image["file_name"]], names[image["file_name"]]
    for each in content["annotations"]:
        each["image_id"] = swapped[before[each["image_id"]]]
    truth.write_text(json.dumps(content))
    # The image 3.jpg is empty, and has the id 4. By ids, the boxes of 4.jpg would be wrong ones in it.
    predictions = [found(f"{number}.jpg", boxes=[] if number == 3 else BOXES) for number in range(1, 5)]
    write(tmp_path / "out", predictions, "coco")
    assert score(capsys, tmp_path / "out/predictions.json", truth)["ap"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("reader", "evaluator", "name"),
    [
        ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
        ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    ],
)
def test_coco_evaluators_take_the_results_of_images_that_are_named_by_number(tmp_path, reader, evaluator, name):
    coco = pytest.importorskip(reader, reason=f"{reader} is not installed").COCO
    evaluate = getattr(importlib.import_module(evaluator), name)
    boxes = [(1, 3, [10, 20, 20, 25]), (2, 7, [60.5, 60, 4.5, 6.25])]
    content = {
        "info": {},
        "images": [{"id": 139, "file_name": "000000000139.jpg", "width": 200, "height": 100}],
        "categories": [{"id": key, "name": str(key)} for key in IDS],
        "annotations": [
            {"id": k, "image_id": 139, "category_id": category, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for k, category, b in boxes
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = coco(str(tmp_path / "truth.json"))
    write(tmp_path, [found("000000000139.jpg")], "coco")
    evaluation = evaluate(truth, truth.loadRes(str(tmp_path / "predictions.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_the_data_set_has_the_same_boxes_with_numbered_images(tmp_path):
    write(tmp_path, [found("000139.jpg", boxes=[]), found("b/a.jpg")], "coco", pictures=True)
    content = dataset(tmp_path)
    assert [image["file_name"] for image in content["images"]] == ["000139.jpg", "b/a.jpg"]
    assert [image["id"] for image in content["images"]] == [1, 2]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(200, 100)}
    assert all((tmp_path / image["picture"]).is_file() for image in content["images"])
    assert content["categories"] == [
        {"id": 3, "name": "car", "supercategory": ""},
        {"id": 7, "name": "bus", "supercategory": ""},
    ]
    assert [
        (each["id"], each["image_id"], each["category_id"], each["iscrowd"]) for each in content["annotations"]
    ] == [
        (1, 2, 3, 0),
        (2, 2, 7, 0),
    ]
    assert [each["area"] for each in content["annotations"]] == [20 * 25, 4.5 * 6.25]


def test_classes_without_ids_are_numbered_from_one_and_coco_has_its_own(tmp_path):
    write(tmp_path, [found()], "coco", ids=None)
    assert [row["category_id"] for row in results(tmp_path)] == [1, 2]
    names = list(COCO_CATEGORY_IDS)
    image = found(classes=(names.index("toothbrush"), names.index("bench")))
    write(tmp_path, [image], "coco", classes=names, ids=None)
    assert [row["category_id"] for row in results(tmp_path)] == [90, 15]  # as in instances_val2017.json
