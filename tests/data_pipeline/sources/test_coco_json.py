"""COCO folders, well-formed and malformed."""

import copy
import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import CocoJson, DataError
from data_pipeline.cleaning import CLIPPED, NOT_FINITE, OUTSIDE, ZERO_SIDED
from data_pipeline.decoding.images import decode_image
from data_pipeline.sources.coco_parse import REPEATED_ANNOTATION, REPEATED_IMAGE, SHARED_ID, UNKNOWN_IMAGE
from data_pipeline.wording import counted_reason
from tests.data_pipeline.coco_folder import CONTENT, HEIGHT, WIDTH, annotation, open_with, write, write_image

SHARED = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[3].parent / "shared"))
HIT_UAV = SHARED / "data" / "hit_uav"


def test_categories_become_labels_in_the_order_of_their_ids(folder):
    data = write(folder, CONTENT)
    assert data.classes == ("cat", "dog")
    dataset = data.open("train", folder / "cache")
    assert dataset.classes == ("cat", "dog")
    assert dataset.category_ids == (4, 90)


def test_boxes_regions_and_images_come_out_as_written(folder):
    dataset = open_with(folder)
    assert dataset.file_names == ("b.png", "sub/a.jpg", "empty.png")
    assert dataset.source_ids == (7, 3, 9)
    first, second, _ = dataset
    np.testing.assert_array_equal(first.boxes, [[5.5, 6.25, 12.5, 14.25]])
    assert first.classes.tolist() == [0]
    np.testing.assert_array_equal(second.boxes, [[1, 2, 4, 6]])
    assert second.classes.tolist() == [1]
    assert first.image == (folder / "images/b.png").read_bytes()


def test_iscrowd_becomes_an_ignore_region_and_no_object(folder):
    example = open_with(folder)[1]
    np.testing.assert_array_equal(example.ignore, [[10, 10, 22, 16]])
    assert len(example.boxes) == 1


def test_an_image_without_annotations_is_kept_empty(folder):
    example = open_with(folder)[2]
    assert example.boxes.shape == (0, 4)
    assert example.classes.shape == (0,)
    assert example.ignore.shape == (0, 4)
    assert (example.height, example.width) == (HEIGHT, WIDTH)


def test_a_well_formed_file_has_an_empty_summary(folder):
    assert open_with(folder).summary == {}


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([float("nan"), 1, 2, 2], NOT_FINITE),
        ([1, 1, float("inf"), 2], NOT_FINITE),
        ([1, None, 2, 2], NOT_FINITE),
        ([1, 1, 0, 5], ZERO_SIDED),
        ([1, 1, 5, -2], ZERO_SIDED),
        ([WIDTH, 1, 5, 5], OUTSIDE),
        ([-9, -9, 4, 4], OUTSIDE),
    ],
)
def test_invalid_boxes_are_dropped_counted_and_printed(folder, capsys, bbox, reason):
    dataset = open_with(folder, annotations=[annotation(bbox=bbox), annotation(id=51)])
    np.testing.assert_array_equal(dataset[0].boxes, [[1, 1, 3, 3]])
    assert dataset.summary == {reason: 1}
    assert f"coco_json/train:   {counted_reason(1, reason)}" in capsys.readouterr().out


def test_boxes_partly_outside_are_clipped_and_counted(folder):
    dataset = open_with(folder, annotations=[annotation(bbox=[-3, 20, 10, 50])])
    np.testing.assert_array_equal(dataset[0].boxes, [[0, 20, 7, HEIGHT]])
    assert dataset.summary == {CLIPPED: 1}


def test_labels_stay_with_their_boxes_when_others_are_dropped(folder):
    rows = [annotation(id=1, bbox=[1, 1, 0, 0]), annotation(id=2, category_id=90), annotation(id=3, bbox=[4, 4, 2, 2])]
    assert open_with(folder, annotations=rows)[0].classes.tolist() == [1, 0]


def test_annotations_of_unlisted_images_are_dropped_and_counted(folder):
    dataset = open_with(folder, annotations=[annotation(id=1), annotation(id=2, image_id=12345)])
    assert len(dataset[0].boxes) == 1
    assert dataset.summary == {UNKNOWN_IMAGE: 1}


def test_a_file_of_which_most_annotations_belong_to_no_image_is_refused_with_ids_of_both_kinds(folder):
    rows = [annotation(id=1), *(annotation(id=2 + i, image_id=100 + i) for i in range(2))]
    message = r"got 2 of 3 .* no listed image, first annotations\[1\] with 'image_id' 100; .* such as 7, 3, 9.*Fix: "
    with pytest.raises(DataError, match=message):
        open_with(folder, annotations=rows)


def test_an_annotation_listed_twice_counts_once(folder):
    dataset = open_with(folder, annotations=[annotation(), annotation()])
    assert len(dataset[0].boxes) == 1
    assert dataset.summary == {REPEATED_ANNOTATION: 1}


def test_different_annotations_that_share_an_id_are_kept(folder):
    dataset = open_with(folder, annotations=[annotation(), annotation(bbox=[4, 4, 3, 3])])
    assert len(dataset[0].boxes) == 2
    assert dataset.summary == {SHARED_ID: 1}


def test_an_image_listed_twice_counts_once(folder):
    dataset = open_with(folder, images=[*CONTENT["images"], CONTENT["images"][0]])
    assert len(dataset) == 3
    assert dataset.summary == {REPEATED_IMAGE: 1}


def test_text_image_ids_are_accepted(folder):
    content = json.loads(
        json.dumps(CONTENT).replace('"id": 7,', '"id": "x7",').replace('"image_id": 7', '"image_id": "x7"')
    )
    dataset = write(folder, content).open("train", folder / "cache")
    assert dataset.source_ids[0] == "x7"
    assert len(dataset[0].boxes) == 1


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 1), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3)])
def test_images_of_other_formats_are_stored_unchanged_and_decode_to_8_bit_rgb(folder, dtype, channels):
    write_image(folder / "images" / "b.png", dtype=dtype, channels=channels)
    example = open_with(folder)[0]
    assert example.image == (folder / "images/b.png").read_bytes()
    decoded = decode_image(example.image, example.file_name)
    assert (decoded.shape, decoded.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("category", [5, -1, "x", 4.5, None, True])
def test_a_wrong_category_id_names_the_annotation_and_the_known_ids(folder, category):
    with pytest.raises(
        DataError, match=r"annotations\[0\] \(id 50\): expected 'category_id' to be one of 4, 90, got .*Fix: "
    ):
        open_with(folder, annotations=[annotation(category_id=category)])


@pytest.mark.parametrize("bbox", [[1, 2, 3], [1, 2, 3, "4"], "1,2,3,4", None, [1, 2, 3, 4, 5], [True, 1, 2, 3]])
def test_a_bbox_that_is_not_four_numbers_names_the_annotation(folder, bbox):
    with pytest.raises(DataError, match=r"annotations\[0\] \(id 50\): expected 'bbox' to be four numbers.*Fix: "):
        open_with(folder, annotations=[annotation(bbox=bbox)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, r"expected at least one image, got none"),
        ({"categories": []}, r"expected at least one category, got none"),
        ({"images": None}, r"got no list 'images'"),
        ({"images": [{"id": 1}]}, r"images\[0\]: expected the keys id, file_name, got none named 'file_name'"),
        ({"images": [{"id": 1.5, "file_name": "b.png"}]}, r"images\[0\]: expected a whole number or a text for 'id'"),
        (
            {"images": [{"id": 1, "file_name": "b.png", "width": -3}]},
            r"images\[0\]: expected 'width' to be a whole number of px",
        ),
        (
            {"images": [{"id": 1, "file_name": "b.png"}, {"id": 1, "file_name": "empty.png"}]},
            r"images\[1\]: expected a new image id, got 1, which 'b.png' has already",
        ),
        ({"categories": [{"id": 4, "name": 5}]}, r"categories\[0\]: expected a whole number 'id' and a text 'name'"),
        (
            {"categories": [{"id": 4, "name": "cat"}, {"id": 4, "name": "dog"}]},
            r"categories\[1\]: expected one name for id 4, got 'cat' and 'dog'",
        ),
        ({"annotations": ["x"]}, r"annotations\[0\]: expected the keys image_id, category_id, bbox"),
        ({"annotations": [annotation(iscrowd="maybe")]}, r"\(id 50\): expected 'iscrowd' to be 0 or 1, got 'maybe'"),
    ],
)
def test_entries_that_cannot_be_trusted_are_named_with_a_fix(folder, changes, message):
    with pytest.raises(DataError, match=rf"train\.json: .*{message}.*Fix: ") as caught:
        open_with(folder, **changes)
    assert "train.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [}', r"train\.json:2:18: expected JSON, got: Expecting value"),
        ("[]", r"expected a JSON object"),
        ("", r"train\.json:1:1: expected JSON"),
    ],
)
def test_a_file_that_is_no_coco_json_is_named_with_its_line(folder, text, message):
    with pytest.raises(DataError, match=message):
        write(folder, text).open("train", folder / "cache")


def test_a_missing_annotation_file_is_named(folder):
    data = dataclasses.replace(write(folder, CONTENT), train_json=folder / "gone.json")
    with pytest.raises(DataError, match=r"gone\.json: expected a COCO annotation file, got No such file"):
        data.open("train", folder / "cache")


def test_a_binary_annotation_file_is_named(folder):
    (folder / "train.json").write_bytes(b"\x80\x81\x82")
    images, path = folder / "images", folder / "train.json"
    with pytest.raises(DataError, match=r"train\.json: expected JSON in UTF-8"):
        CocoJson(images, path, images, path).open("train", folder / "cache")


def test_splits_with_different_categories_are_an_error(folder):
    other = copy.deepcopy(CONTENT)
    other["categories"][0]["name"] = "wolf"
    data = dataclasses.replace(write(folder, CONTENT), val_json=write(folder, other, "val.json").train_json)
    with pytest.raises(DataError, match=r"val\.json: expected the categories of .*'dog'.*got .*'wolf'.*Fix: "):
        data.open("val", folder / "cache")


def test_an_unknown_split_is_an_error(folder):
    with pytest.raises(ValueError, match=r"split: expected 'train' or 'val', got 'test'"):
        write(folder, CONTENT).open("test", folder / "cache")


def test_a_changed_image_or_annotation_is_noticed(folder):
    assert open_with(folder)[0].boxes.shape == (1, 4)
    assert open_with(folder, annotations=[])[0].boxes.shape == (0, 4)
    path = folder / "images" / "b.png"
    assert cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert open_with(folder)[0].image == path.read_bytes()


@pytest.mark.skipif(not HIT_UAV.exists(), reason="the real data set is optional")
def test_real_drone_images_open(tmp_path):
    images = HIT_UAV / "images"
    data = CocoJson(images, HIT_UAV / "annotations/train.json", images, HIT_UAV / "annotations/val.json")
    dataset = data.open("val", tmp_path)
    assert data.classes == ("Person", "Car", "Bicycle", "OtherVehicle")
    assert len(dataset) == 265
    entry = json.loads((HIT_UAV / "annotations/val.json").read_text())
    objects = sum(not row["iscrowd"] for row in entry["annotations"])
    assert sum(len(dataset.annotations(index).boxes) for index in range(265)) == objects
    assert decode_image(dataset[0].image, dataset[0].file_name).shape == (512, 640, 3)
