"""Annotation files as labelling programs write them, or as people convert them: read, or refused with the cause."""

import json
import unicodedata
from urllib.parse import quote

import numpy as np
import pytest

from data_pipeline import CocoJson, DataError
from data_pipeline.sources.coco_fields import FROM_OUTLINE, ROTATED
from data_pipeline.sources.coco_parse import read_coco
from data_pipeline.sources.find_files import RENAMED
from tests.data_pipeline.coco_folder import CONTENT, HEIGHT, WIDTH, annotation, open_with, write, write_image


def content(**changes):
    return {**json.loads(json.dumps(CONTENT)), **changes}


def opened(folder, value, text=None):
    path = folder / "train.json"
    path.write_bytes(json.dumps(value).encode() if text is None else text)
    return CocoJson(folder / "images", path, folder / "images", path).open("train", folder / "cache")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace(",", ",\r\n").encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-32"),
    ],
    ids=["BOM", "CRLF", "UTF-16", "UTF-16 without BOM", "UTF-32"],
)
def test_any_encoding_of_json_is_read(folder, encode):
    assert opened(folder, None, encode(json.dumps(CONTENT))).file_names == ("b.png", "sub/a.jpg", "empty.png")


def test_ids_are_values(folder):
    value = content()
    value["images"][0]["id"], value["images"][1]["id"], value["images"][2]["id"] = "7", 3.0, "9.0"
    value["annotations"][0] |= {"image_id": "3", "category_id": 90.0}
    value["annotations"][1] |= {"image_id": 7.0, "category_id": "4"}
    data = opened(folder, value)
    assert data.source_ids == (7, 3, 9)
    assert [len(data[i].boxes) for i in range(3)] == [1, 1, 0]
    assert data[1].classes.tolist() == [1]


def test_a_text_of_digits_that_is_no_number_stays_a_text(folder):
    value = content(annotations=[annotation(image_id="007")])
    value["images"][0]["id"] = "007"
    assert opened(folder, value).source_ids[0] == "007"


@pytest.mark.parametrize(
    "marks",
    [
        {"iscrowd": True},
        {"ignore": 1},
        {"ignore": "true"},
        {"uncertain": True},
        {"difficult": 1.0},
        {"attributes": {"difficult": True}},
        {"attributes": {"ignore": 1}},
        {"is_group_of": 1},
    ],
)
def test_marks_make_an_ignore_region(folder, marks):
    data = open_with(folder, annotations=[annotation(id=1), annotation(id=2, bbox=[5, 5, 6, 6], **marks)])
    assert data[0].boxes.tolist() == [[1, 1, 3, 3]]
    assert data[0].ignore.tolist() == [[5, 5, 11, 11]]


@pytest.mark.parametrize(
    "marks", [{"ignore": False}, {"ignore": None}, {"ignore": "0"}, {"attributes": {"ignore": "no"}}]
)
def test_marks_that_say_no_leave_an_object(folder, marks):
    assert len(open_with(folder, annotations=[annotation(**marks)])[0].boxes) == 1


def test_a_mark_that_is_neither_yes_nor_no_is_an_error(folder):
    with pytest.raises(DataError, match=r"annotations\[0\] \(id 50\): expected 'ignore' to be 0 or 1, got 7\. Fix: "):
        open_with(folder, annotations=[annotation(ignore=7)])


@pytest.mark.parametrize(("width", "height"), [(32.0, 24.0), ("32", "24"), (0, 0), (None, 0.0)])
def test_sizes_as_programs_write_them(folder, width, height):
    images = [{"id": 7, "file_name": "b.png", "width": width, "height": height}]
    example = open_with(folder, images=images, annotations=[annotation()])[0]
    assert (example.height, example.width) == (HEIGHT, WIDTH)


def test_a_size_that_is_none_says_that_it_may_be_left_out(folder):
    images = [{"id": 7, "file_name": "b.png", "width": 32.5}]
    with pytest.raises(
        DataError, match=r"images\[0\]: expected 'width' .* got 32\.5\. Fix: .*leave 'width' and 'height'"
    ):
        open_with(folder, images=images, annotations=[annotation()])


POLYGON = [[5.0, 6.0, 12.5, 6.0, 12.5, 14.25, 5.0, 14.25]]


def column_runs(left, top, right, bottom):
    """COCO's uncompressed run lengths of a rectangle, written out from its mask."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges, flat.size]).tolist()}


@pytest.mark.parametrize(
    ("outline", "box"),
    [
        (POLYGON, [5, 6, 12.5, 14.25]),
        ([[1, 1, 3, 1, 3, 3], [10, 10, 12, 11, 11, 14]], [1, 1, 12, 14]),
        (column_runs(5, 6, 12, 14), [5, 6, 12, 14]),
        ({"size": [24, 32], "counts": "n38`000000000000j>"}, [5, 6, 12, 14]),
    ],
    ids=["polygon", "polygons", "run lengths", "packed run lengths"],
)
def test_boxes_come_from_outlines(folder, outline, box):
    rows = [annotation(id=1, segmentation=outline), annotation(id=2, segmentation=outline)]
    del rows[0]["bbox"]
    rows[1]["bbox"] = None
    data = open_with(folder, annotations=rows)
    np.testing.assert_array_equal(data[0].boxes, [box, box])
    assert data.summary[FROM_OUTLINE] == 2


def test_a_box_that_is_there_is_taken_before_its_outline(folder):
    data = open_with(folder, annotations=[annotation(segmentation=POLYGON)])
    np.testing.assert_array_equal(data[0].boxes, [[1, 1, 3, 3]])


def test_cvats_rotated_boxes_become_the_upright_boxes_around_them(folder):
    rows = [annotation(id=k, bbox=[10, 8, 8, 4], attributes={"rotation": turn}) for k, turn in enumerate((90.0, 30.0))]
    data = open_with(folder, annotations=rows)
    # Corners of the box turned by 30° about its center (14, 10).
    corners = np.array([[-4, -2], [4, -2], [4, 2], [-4, 2]]) @ np.array(
        [[np.cos(np.pi / 6), np.sin(np.pi / 6)], [-np.sin(np.pi / 6), np.cos(np.pi / 6)]]
    ) + [14, 10]
    want = [[12, 6, 16, 14], [*corners.min(0), *corners.max(0)]]
    np.testing.assert_allclose(data[0].boxes, want, rtol=1e-6)
    assert data.summary[ROTATED] == 2


def roboflow():
    heading = {"id": 0, "name": "drones-abc", "supercategory": "none"}
    return content(categories=[heading, *({**entry, "supercategory": "drones-abc"} for entry in CONTENT["categories"])])


def test_roboflows_category_for_all_is_left_out_and_named(folder, capsys):
    data = opened(folder, roboflow())
    assert data.classes == ("cat", "dog")
    assert data.category_ids == (4, 90)
    assert data[0].classes.tolist() == [0]
    assert "category 0, 'drones-abc', is only the supercategory of the others and has no box" in capsys.readouterr().out


def test_a_supercategory_with_boxes_stays(folder):
    value = roboflow()
    value["annotations"][0]["category_id"] = 0
    assert opened(folder, value).classes == ("drones-abc", "cat", "dog")


def test_classes_without_a_box_are_named_and_stay(folder, capsys):
    data = opened(folder, content(categories=[*CONTENT["categories"], {"id": 91, "name": "boat"}]))
    assert data.classes == ("cat", "dog", "boat")
    assert "no box of 1 of 3 classes: boat" in capsys.readouterr().out


def test_two_categories_of_one_name_are_told_apart(folder):
    data = opened(folder, content(categories=[{"id": 4, "name": "waste"}, {"id": 90, "name": "waste"}]))
    assert data.classes == ("waste (id 4)", "waste (id 90)")


@pytest.mark.parametrize(
    "name",
    [
        "images/b.png",
        "images\\/b.png",
        "images\\b.png",
        "C:\\Users\\me\\data\\b.png",
        "/data/upload/1/b.png",
        "/data/local-files/?d=project/images/b.png",
        "../images/b.png",
        "b.PNG",
        "B.png",
        "0123abcd-b.png",
        "http://host/images/b.png?size=full",
        "./b.png",
        "%62.png",
    ],
)
def test_names_that_differ_are_found_by_the_one_file_that_matches(folder, name, capsys):
    value = content()
    value["images"][0]["file_name"] = name
    data = opened(folder, value)
    assert data.file_names[0] == "b.png"
    assert data[0].image == (folder / "images" / "b.png").read_bytes()
    if name != "./b.png":
        assert data.summary[RENAMED] == 1
        assert f"{name!r} is read from 'b.png'" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Müller 한국+1.png", "my car&b+c.png"])
@pytest.mark.parametrize("spell", [lambda name: unicodedata.normalize("NFC", name), quote], ids=["NFC", "URL"])
def test_names_in_another_normal_form_or_url_encoded_are_found(folder, name, spell):
    write_image(folder / "images" / unicodedata.normalize("NFD", name))
    data = open_with(folder, images=[{"id": 7, "file_name": spell(name)}], annotations=[annotation()])
    assert unicodedata.normalize("NFC", data.file_names[0]) == name
    assert not data.unreadable


def test_a_name_that_could_mean_two_files_is_missing(folder, caplog):
    write_image(folder / "images" / "other" / "a.jpg")
    value = content()
    value["images"][1]["file_name"] = "a.jpg"
    data = opened(folder, value)
    assert list(data.unreadable) == [1]
    value["images"][1]["file_name"] = "images/sub/a.jpg"
    assert opened(folder, value).file_names[1] == "sub/a.jpg"


def test_two_names_do_not_share_a_file(folder):
    value = content()
    value["images"][0]["file_name"], value["images"][2]["file_name"] = "one/b.png", "two/b.png"
    with pytest.raises(DataError, match="2 of 3 cannot be read"):
        opened(folder, value)


def pixels(*boxes):
    return [annotation(id=k, bbox=list(box)) for k, box in enumerate(boxes)]


def test_corners_in_place_of_widths_are_noticed_by_their_areas(folder):
    rows = [{**row, "area": 12 * 9} for row in pixels([2, 3, 14, 12], [3, 3, 15, 12], [4, 3, 16, 12])]
    with pytest.raises(DataError, match=r"expected 'bbox' to be x, y, width and height.* 'area' .*corners.*Fix: "):
        open_with(folder, annotations=rows)


def test_corners_in_place_of_widths_are_noticed_where_most_leave_their_image(folder):
    with pytest.raises(DataError, match=r"expected 'bbox' to be x, y, width and height.*most leave their image.*Fix: "):
        open_with(folder, annotations=pixels([20, 3, 30, 12], [21, 13, 31, 20], [2, 3, 9, 8]))


def test_fractions_in_place_of_px_are_noticed(folder):
    with pytest.raises(DataError, match=r"expected 'bbox' in px, got boxes within 0…1.* fractions.*Fix: multiply"):
        open_with(folder, annotations=pixels([0.1, 0.2, 0.3, 0.25], [0.5, 0.5, 0.1, 0.1]))


def test_honest_boxes_pass(folder):
    """At the left border, in the corner, of one px, with areas of segments: nothing to notice."""
    rows = pixels([0, 0, 12, 9], [0, 0, 1, 1], [20, 10, 12, 14], [5, 5, 6, 7])
    rows = [{**row, "area": 0.6 * row["bbox"][2] * row["bbox"][3]} for row in rows]
    assert len(open_with(folder, annotations=rows)[0].boxes) == 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"version": "5.4", "shapes": [], "imagePath": "a.jpg"}, "a file of labelme.*labelme2coco"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, r"VIA \(VGG Image Annotator\).*Export"),
        ({"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": []}}, "VIA"),
        ([{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": []}], "Label Studio's own JSON.*as COCO"),
        ([{"image": "a.jpg", "annotations": [{"label": "x"}]}], "CreateML"),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "COCO results"),
        ({"samples": [{"filepath": "a.jpg"}]}, "FiftyOne"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro"),
        ({"size": {"width": 1}, "objects": []}, "Supervisely"),
        ({"images": {}}, "no list 'images'.*export the annotations in COCO"),
    ],
)
def test_other_formats_are_called_by_name(tmp_path, value, message):
    (tmp_path / "labels.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=rf"labels\.json: expected .*{message}"):
        read_coco(tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a web page.*download the file itself"),
        (b"<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>", "CVAT's XML.*export"),
        (b"<annotation><folder>", "Pascal VOC"),
        (b"PK\x03\x04....", "a zip archive.*unpack"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", "a number that is too long"),
    ],
)
def test_files_that_are_no_json_are_called_by_name(tmp_path, data, message):
    (tmp_path / "labels.json").write_bytes(data)
    with pytest.raises(DataError, match=rf"labels\.json: expected .*{message}"):
        read_coco(tmp_path / "labels.json")


def test_fiftyone_writes_null_for_what_it_does_not_know(folder):
    value = content()
    value["categories"] = [{**entry, "supercategory": None} for entry in value["categories"]]
    value["images"] = [{**entry, "license": None, "coco_url": None} for entry in value["images"]]
    value["annotations"] = [{**entry, "segmentation": [], "iscrowd": 0} for entry in value["annotations"]]
    assert len(opened(folder, value)[0].boxes) == 1


def test_reading_one_file_twice_gives_the_same(folder):
    data = write(folder, roboflow())
    assert data.classes == data.classes == ("cat", "dog")
