"""Files of detections, read back by the programs that they are meant for, or by hand."""

import csv
import importlib
import json
from typing import get_args

import cv2
import numpy as np
import pytest
import yaml

from ugs_jax.cli import main
from ugs_jax.commands.predict import FormatName
from ugs_jax.evaluation import ImageDetections
from ugs_jax.evaluation.coco_categories import COCO_CATEGORY_IDS
from ugs_jax.report import Frame, Prediction, write_predictions
from ugs_jax.report.formats import FORMATS

CLASSES = ("car", "bus")
IDS = (3, 7)
GREY = np.full((100, 200, 3), 90, np.uint8)
BOXES = [[10, 20, 30, 45], [60.5, 60, 65, 66.25]]


def found(file_name="a.jpg", boxes=BOXES, scores=(0.9, 0.5), classes=(0, 1), image=GREY, deviation=None, **place):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    detections = ImageDetections(
        boxes,
        np.array(scores, np.float32)[: len(boxes)],
        np.array(classes, np.int32)[: len(boxes)],
        None if deviation is None else np.array(deviation, np.float32),
    )
    return Prediction(file_name, image, detections, **place)


def frames(count, file_name="clip.mp4"):
    return [found(file_name, frame=Frame(number, number / 25, 25.0)) for number in range(count)]


def write(folder, predictions, *formats, classes=CLASSES, ids=IDS, **options):
    options = {"pictures": False, **options}
    return write_predictions(folder, predictions, classes, formats=formats, category_ids=ids, **options)


def results(folder):
    return json.loads((folder / "predictions.json").read_text())


def dataset(folder):
    return json.loads((folder / "dataset.json").read_text())


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


def score(capsys, file, truth):
    capsys.readouterr()
    assert main(["score", str(file), "--truth", str(truth), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


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


def test_yolo_rows_are_shares_of_the_image(tmp_path):
    write(tmp_path, [found("b/a.jpg", boxes=[[10, 20, 30, 45], [190, 90, 260, 160]])], "yolo")
    rows = (tmp_path / "yolo/labels/b/a.txt").read_text().splitlines()
    # The second box is cut at the border: x 190…200 of 200, y 90…100 of 100.
    assert rows == ["0 0.1 0.325 0.1 0.25 0.9", "1 0.975 0.95 0.05 0.1 0.5"]
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text()) == {"nc": 2, "names": {0: "car", 1: "bus"}}


@pytest.mark.parametrize("name", ['a "b": c', "no", "3", "ä\\n# x", "- y"])
def test_class_names_survive_yaml(tmp_path, name):
    write(tmp_path, [], "yolo", classes=[name], ids=[1])
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())["names"] == {0: name}


def test_an_image_without_boxes_has_no_label_file_even_after_an_earlier_call(tmp_path):
    write(tmp_path, [found("a.jpg"), found("b.jpg")], "yolo")
    write(tmp_path, [found("a.jpg", boxes=[]), found("b.jpg", boxes=[[300, 20, 310, 30]])], "yolo")
    assert list((tmp_path / "yolo/labels").iterdir()) == []


def test_label_files_of_equal_stems_are_kept_apart(tmp_path):
    names = ["one/x.jpg", "two/x.jpg", "one/x.png", "../one/x.bmp"]
    write(tmp_path, [found(name) for name in names], "yolo", "visdrone")
    labels = tmp_path / "yolo/labels"
    assert {str(path.relative_to(labels)) for path in labels.rglob("*.txt")} == {
        *("one/x.txt", "two/x.txt", "one/x-2.txt", "one/x-3.txt")
    }
    assert len(list((tmp_path / "visdrone").glob("*.txt"))) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"yolo", "visdrone", "visdrone.zip", "summary.json"}


def test_the_table_has_a_row_for_each_box(tmp_path):
    image = found("b/a.jpg", deviation=[[1, 2, 3, 4], [5, 6, 7, 8]])
    frame = found("clip.mp4", boxes=BOXES[:1], frame=Frame(12, 0.48, 25.0))
    write(tmp_path, [image, frame], "csv")
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        first, second, third = csv.DictReader(stream)
    assert first == {
        "file": "b/a.jpg",
        "frame": "",
        "time": "",
        "image_width": "200",
        "image_height": "100",
        "class": "car",
        "category_id": "3",
        "score": "0.900000",
        "x": "10.000",
        "y": "20.000",
        "width": "20.000",
        "height": "25.000",
        "deviation_x1": "1.000",
        "deviation_y1": "2.000",
        "deviation_x2": "3.000",
        "deviation_y2": "4.000",
    }
    assert (second["class"], second["x"], second["width"]) == ("bus", "60.500", "4.500")
    assert (third["file"], third["frame"], third["time"], third["deviation_x1"]) == ("clip.mp4", "12", "0.4800", "")


def test_names_with_commas_and_line_breaks_survive_the_table(tmp_path):
    write(tmp_path, [found('a,"b"\n.jpg', boxes=BOXES[:1])], "csv", classes=("c,d", "e"))
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["file"], row["class"]) == ('a,"b"\n.jpg', "c,d")


def test_ugs_score_takes_the_submission_unchanged(tmp_path, capsys):
    annotations = tmp_path / "val" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "a.txt").write_text("10,20,20,25,1,1,0,0\n60,60,5,6,1,2,0,0\n")
    (annotations / "b.txt").write_text("")
    boxes = [[10, 20, 30, 45], [60, 60, 65, 66]]
    write(tmp_path / "out", [found("a.jpg", boxes=boxes), found("b.jpg", boxes=[])], "visdrone")
    for path in ("visdrone", "visdrone.zip"):
        got = score(capsys, tmp_path / "out" / path, tmp_path / "val")
        assert (got["ap"], got["ar500"]) == pytest.approx((1, 1))
    assert (tmp_path / "out/visdrone/a.txt").read_text().startswith("10.000,20.000,20.000,25.000,0.900000,1,-1,-1\n")


def test_all_formats_can_be_written_at_once_and_have_the_same_boxes(tmp_path):
    written = write(tmp_path, [found(), found("b.jpg")], "coco", "yolo", "csv", "visdrone", "csv")
    assert list(written.files) == ["coco", "yolo", "csv", "visdrone"]
    assert all(path.exists() for path in written.files.values())
    label_rows = sum(len(path.read_text().splitlines()) for path in (tmp_path / "yolo/labels").iterdir())
    table_rows = len((tmp_path / "predictions.csv").read_text().splitlines()) - 1
    submitted = sum(len(path.read_text().splitlines()) for path in (tmp_path / "visdrone").iterdir())
    assert written.boxes == len(results(tmp_path)) == label_rows == table_rows == submitted == 4


def test_boxes_below_the_lowest_score_and_without_area_are_left_out(tmp_path):
    boxes = [[1, 1, 9, 9], [1, 1, 5, 5], [7, 7, 7, 9]]
    image = found(boxes=boxes, scores=(0.5, 0.25, 0.9), classes=(0, 0, 0))
    written = write(tmp_path, [image], "coco", keep=0.25)
    assert written.boxes == 2
    assert [row["score"] for row in results(tmp_path)] == [0.5, 0.25]
    assert write(tmp_path, [image], "coco", keep=0.3).boxes == 1


def test_frames_are_images_of_their_own_with_number_and_time(tmp_path):
    written = write(tmp_path, [found("a.jpg"), *frames(2)], "coco", "yolo", "visdrone")
    assert (written.images, written.videos, written.frames, written.boxes) == (1, 1, 2, 6)
    last = results(tmp_path)[-1]
    assert (last["image_id"], last["file_name"], last["frame"], last["time"]) == ("clip/000001", "clip.mp4", 1, 0.04)
    assert dataset(tmp_path)["images"][-1] == {
        "id": 3,
        "file_name": "clip/000001.jpg",
        "width": 200,
        "height": 100,
        "video": "clip.mp4",
        "frame": 1,
        "time": 0.04,
    }
    assert (tmp_path / "yolo/labels/clip/000001.txt").is_file()
    assert (tmp_path / "visdrone/clip_000001.txt").is_file()


def test_the_summary_counts_skipped_files_and_gives_the_reasons(tmp_path):
    reasons = []

    def predictions():
        yield found()
        reasons.append(ValueError("b.jpg: expected an image, got 0 bytes"))  # as predict_files finds it on the way
        yield from frames(3)

    write(tmp_path, predictions(), "coco", skipped=reasons)
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "images": 1,
        "videos": 1,
        "frames": 3,
        "boxes": 8,
        "skipped": 1,
        "reasons": ["b.jpg: expected an image, got 0 bytes"],
        "files": {"coco": "predictions.json"},
        "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "bus"}],
    }


def test_after_an_error_no_unfinished_file_stays(tmp_path):
    write(tmp_path, [found()], "coco", "csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken():
        yield from frames(2)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write(tmp_path, broken(), "coco", "csv", pictures=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_video_becomes_a_video_with_boxes(tmp_path):
    clips = [*frames(5, "b/clip.mov"), *frames(3, "clip.avi"), found("clip.jpg")]
    write(tmp_path, clips, "coco", pictures=True)
    assert [image["picture"] for image in dataset(tmp_path)["images"]] == [
        *["b_clip.mp4"] * 5,
        *["clip.mp4"] * 3,
        "clip-2.png",
    ]
    for name, count in (("b_clip.mp4", 5), ("clip.mp4", 3)):
        capture = cv2.VideoCapture(str(tmp_path / name))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
        pictures = []
        while (read := capture.read())[0]:
            pictures.append(read[1])
        capture.release()
        assert len(pictures) == count
        assert pictures[0].shape == (136, 200, 3)
        changed = np.abs(pictures[0][:100].astype(int) - 90).max(-1) > 40
        assert changed[18:47, 8].all()  # the left line of the first box, just outside
        assert not changed[22:43, 13:27].any()  # inside it
        assert (pictures[0][104:, :3] > 200).all()  # the legend's paper


def test_frames_of_odd_sides_can_be_written(tmp_path):
    odd = np.full((51, 75, 3), 90, np.uint8)
    for rate in (23.976043, 0.0, 1e6):
        predictions = [found("c.mp4", image=odd, boxes=BOXES[:1], frame=Frame(k, k / 24, rate)) for k in range(2)]
        write(tmp_path, predictions, "coco", pictures=True)
        capture = cv2.VideoCapture(str(tmp_path / "c.mp4"))
        assert capture.read()[1].shape == (88, 76, 3)
        capture.release()


def test_classes_without_ids_are_numbered_from_one_and_coco_has_its_own(tmp_path):
    write(tmp_path, [found()], "coco", ids=None)
    assert [row["category_id"] for row in results(tmp_path)] == [1, 2]
    names = list(COCO_CATEGORY_IDS)
    image = found(classes=(names.index("toothbrush"), names.index("bench")))
    write(tmp_path, [image], "coco", classes=names, ids=None)
    assert [row["category_id"] for row in results(tmp_path)] == [90, 15]  # as in instances_val2017.json


def test_the_command_offers_every_format():
    assert set(get_args(FormatName)) == set(FORMATS)


def test_an_unknown_format_and_too_few_ids_are_refused(tmp_path):
    with pytest.raises(ValueError, match="formats: expected coco, yolo, csv, visdrone, got 'voc'"):
        write(tmp_path, [], "voc")
    with pytest.raises(ValueError, match="category_ids: expected an id for each of 2 classes, got 1"):
        write(tmp_path, [], "coco", ids=(1,))
