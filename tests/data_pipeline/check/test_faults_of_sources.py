"""Sources say which image and which annotation has a fault, also when a split is read from the cache."""

import json

import pytest

from data_pipeline import VisDrone
from data_pipeline.cleaning import CLIPPED, NOT_FINITE, OUTSIDE, UNREADABLE, ZERO_SIDED
from data_pipeline.faults import Fault, Faults
from data_pipeline.sources.coco_parse import REPEATED_ANNOTATION, REPEATED_IMAGE, SHARED_ID, UNKNOWN_IMAGE
from data_pipeline.sources.yolo_images import NO_IMAGE
from data_pipeline.sources.yolo_labels import REPEATED, UNKNOWN_CLASS
from tests.data_pipeline.coco_folder import CONTENT, annotation, open_with, write_image
from tests.data_pipeline.yolo_files import yolo_folder


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "sub/a.jpg", "empty.png"):
        write_image(tmp_path / "images" / name)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "place", "reason"),
    [
        ({"bbox": [1, 1, 0, 3]}, "annotations[3] (id 50)", ZERO_SIDED),
        ({"bbox": [30, 20, 9, 9], "iscrowd": 1}, "annotations[3] (id 50)", CLIPPED),
        ({"bbox": [None, 1, 3, 3], "id": "x"}, "annotations[3] (id 'x')", NOT_FINITE),
        ({"id": 2, "bbox": [50, 50, 3, 3]}, "annotations[3] (id 2)", OUTSIDE),
        ({"id": 2, "bbox": [50, 50, 3, 3]}, "annotations[3] (id 2)", SHARED_ID),
        ({**CONTENT["annotations"][1]}, "annotations[3] (id 2)", REPEATED_ANNOTATION),
    ],
)
def test_coco_annotations_are_named_by_position_and_id(folder, changes, place, reason):
    rows = [*CONTENT["annotations"], annotation(**changes)]
    for _ in range(2):
        assert Fault("b.png", place, reason) in open_with(folder, annotations=rows).noted


def test_coco_entries_without_an_image_and_repeated_images_are_named(folder):
    rows = [*CONTENT["annotations"], annotation(image_id=99)]
    found = open_with(folder, annotations=rows, images=[*CONTENT["images"], CONTENT["images"][0]]).noted
    assert Fault("", "annotations[3] (id 50)", UNKNOWN_IMAGE) in found
    assert Fault("b.png", "images[3] (id 7)", REPEATED_IMAGE) in found


def test_an_unreadable_image_is_noted_with_its_error(folder):
    (folder / "images" / "b.png").unlink()
    (fault,) = open_with(folder).noted
    assert (fault.image, fault.reason) == ("b.png", UNREADABLE)
    assert "expected an image file, found none" in fault.place


def test_remarks_are_counted_and_not_noted(folder):
    rows = [{"id": 1, "image_id": 7, "category_id": 4, "segmentation": [[1, 1, 9, 1, 9, 9]]}]
    dataset = open_with(folder, annotations=rows)
    assert list(dataset.summary.values()) == [1]
    assert dataset.noted == ()


def test_rows_of_visdrone_are_named_by_their_lines(tmp_path):
    for part in ("VisDrone2019-DET-train", "VisDrone2019-DET-val"):
        write_image(tmp_path / part / "images" / "0.jpg")
        (tmp_path / part / "annotations").mkdir()
        rows = "1,2,10,8,1,4,0,0\n\n5,6,0,8,1,4,0,0\n28,20,50,50,0,0,0,0\n"
        (tmp_path / part / "annotations" / "0.txt").write_text(rows)
    assert VisDrone(tmp_path).open("train", tmp_path / "cache").noted == (
        Fault("0.jpg", "annotations/0.txt:3", ZERO_SIDED),
        Fault("0.jpg", "annotations/0.txt:4", CLIPPED),
    )


def test_rows_of_yolo_labels_are_named_by_file_and_line(tmp_path):
    labels = "0 .5 .5 .25 .5\n7 .5 .5 .1 .1\n0 .5 .5 .25 .5\n1 .9 .5 .4 .2\n"
    source = yolo_folder(tmp_path, [("a", labels), ("b", "1 .5 .5 .2 .2\n0 .2 .2 .2 .2\n")])
    (tmp_path / "labels" / "train" / "gone.txt").write_text("")
    found = source.open("train", tmp_path / "cache").noted
    file = tmp_path / "labels" / "train" / "a.txt"
    assert [(fault.image, fault.reason) for fault in found] == [
        ("", NO_IMAGE),
        ("images/train/a.png", UNKNOWN_CLASS),
        ("images/train/a.png", REPEATED),
        ("images/train/a.png", CLIPPED),
    ]
    assert [fault.place for fault in found[1:]] == [f"{file}:2", f"{file}:3", f"{file}:4"]
    assert found[1].message.startswith("expected a class from 0 to 1")


def test_faults_are_kept_in_the_cache_as_json(folder):
    open_with(folder, annotations=[annotation(bbox=[1, 1, 0, 3])])
    (file,) = (folder / "cache").glob("*/train-*/dataset.json")
    assert json.loads(file.read_text())["faults"] == [["b.png", "annotations[0] (id 50)", ZERO_SIDED, ""]]


def test_faults_are_joined_with_the_image_that_they_lack():
    first, second = Faults(), Faults()
    second.note("rows (dropped)", [("", "a.txt:1"), ("b.jpg", "b.txt:2")])
    second["polygons"] += 4
    first.include(second, "a.jpg")
    assert first == {"rows (dropped)": 2, "polygons": 4}
    assert [fault.image for fault in first.noted] == ["a.jpg", "b.jpg"]
