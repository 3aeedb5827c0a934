"""VisDrone's official folders and columns, well-formed and malformed."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import CocoJson, DataError, VisDrone
from data_pipeline.cleaning import CLIPPED, NOT_FINITE, OUTSIDE, UNREADABLE, ZERO_SIDED
from data_pipeline.sources.visdrone import CLASSES, read_rows
from data_pipeline.wording import counted_reason

HEIGHT, WIDTH = 24, 32
SHARED = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[3].parent / "shared"))
HIT_UAV = SHARED / "data" / "hit_uav"


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "VisDrone2019-DET-train"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    return folder


def write(split, text, stem="0000001_00000_d_0000001", suffix=".jpg"):
    assert cv2.imwrite(str(split / "images" / f"{stem}{suffix}"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (split / "annotations" / f"{stem}.txt").write_text(text)


def open_split(split):
    return VisDrone(split.parent).open("train", split.parent / "cache")


def test_columns_become_boxes_and_categories_become_labels_from_zero(split):
    write(split, "\n".join(f"{k},2,3,4,1,{k},0,0" for k in range(1, 11)))
    example = open_split(split)[0]
    np.testing.assert_array_equal(example.boxes, [[k, 2, k + 3, 6] for k in range(1, 11)])
    assert example.classes.tolist() == list(range(10))
    assert VisDrone(split.parent).classes == CLASSES
    assert CLASSES[3] == "car"


@pytest.mark.parametrize("row", ["1,2,3,4,0,0,0,0", "1,2,3,4,1,0,0,0", "1,2,3,4,1,11,0,0", "1,2,3,4,0,4,0,0"])
def test_ignored_regions_others_and_score_zero_become_ignore_regions(split, row):
    write(split, f"{row}\n5,5,5,5,1,4,0,0\n")
    example = open_split(split)[0]
    np.testing.assert_array_equal(example.ignore, [[1, 2, 4, 6]])
    np.testing.assert_array_equal(example.boxes, [[5, 5, 10, 10]])


def test_trailing_commas_blank_lines_spaces_and_windows_line_ends_are_read(split):
    write(split, "\r\n1,2,3,4,1,4,0,0,\r\n\r\n 5, 5, 5, 5, 1, 4, 0, 0 \r\n")
    example = open_split(split)[0]
    np.testing.assert_array_equal(example.boxes, [[1, 2, 4, 6], [5, 5, 10, 10]])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("611,158,4,0,1,4,0,0", ZERO_SIDED),  # the one zero-height car of the official training set
        ("nan,2,3,4,1,4,0,0", NOT_FINITE),
        ("100,2,3,4,1,4,0,0", OUTSIDE),
    ],
)
def test_rows_without_a_valid_box_are_dropped_counted_and_printed(split, capsys, row, reason):
    write(split, f"{row}\n5,5,5,5,1,10,0,0\n")
    dataset = open_split(split)
    assert dataset[0].classes.tolist() == [9]
    assert dataset.summary == {reason: 1}
    assert f"visdrone/train:   {counted_reason(1, reason)}" in capsys.readouterr().out


def test_boxes_partly_outside_are_clipped_and_counted(split):
    write(split, "30,20,9,9,1,4,0,0")
    dataset = open_split(split)
    np.testing.assert_array_equal(dataset[0].boxes, [[30, 20, WIDTH, HEIGHT]])
    assert dataset.summary == {CLIPPED: 1}


def test_an_empty_annotation_file_is_an_image_without_objects(split):
    write(split, "")
    example = open_split(split)[0]
    assert example.boxes.shape == example.ignore.shape == (0, 4)


def test_images_come_in_the_order_of_their_names(split):
    for stem in ("c", "a", "b"):
        write(split, "", stem, suffix=".png")
    dataset = open_split(split)
    assert dataset.file_names == ("a.png", "b.png", "c.png")
    assert dataset.source_ids == ("a", "b", "c")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2,3,4,1,4,0", r"x\.txt:2: expected 8 columns, left, top,.*got 7 in '1,2,3,4,1,4,0'\. Fix: "),
        ("1,2,3,4,1,4,0,0,9", r"x\.txt:2: expected 8 columns.*got 9"),
        ("1,2,3,4,1,4,0,0,,", r"x\.txt:2: expected 8 columns.*got 9"),
        ("1 2 3 4 1 4 0 0", r"x\.txt:2: expected 8 columns.*got 1"),
        ("1,2,wide,4,1,4,0,0", r"x\.txt:2: expected a number for width, got 'wide'\. Fix: "),
        ("1,2,3,4,1,,0,0", r"x\.txt:2: expected a number for category, got ''"),
        ("1,2,3,4,1,12,0,0", r"x\.txt:2: expected a category from 0 .* to 11 .*got 12\. Fix: "),
        ("1,2,3,4,1,-1,0,0", r"x\.txt:2: expected a category"),
        ("1,2,3,4,1,2.5,0,0", r"x\.txt:2: expected a category"),
        ("1,2,3,4,1,nan,0,0", r"x\.txt:2: expected a category"),
        ("1,2,3,4,nan,4,0,0", r"x\.txt:2: expected the score 0 or 1, got nan"),
    ],
)
def test_rows_of_another_form_are_named_by_file_and_line(tmp_path, row, message):
    path = tmp_path / "x.txt"
    path.write_text(f"1,2,3,4,1,4,0,0\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_rows(path)


def test_a_binary_annotation_file_is_named(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"x\.txt: expected a text file"):
        read_rows(tmp_path / "x.txt")


def test_a_truncated_image_is_named_and_left_out(split, caplog):
    write(split, "1,2,9,8,1,4,0,0\n", "x")
    write(split, "", "y")
    path = split / "images" / "x.jpg"
    path.write_bytes(path.read_bytes()[:-50])
    dataset = open_split(split)
    assert re.search(r"x\.jpg: expected a whole image, got a truncated file.* left out", caplog.text)
    assert dataset.summary == {UNREADABLE: 1}
    assert (dataset[0].height, dataset[0].width) == (10, 10)
    assert dataset[0].boxes.tolist() == [[1, 2, 10, 10]]
    path.with_name("y.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 2 cannot be read"):
        open_split(split)


def test_an_image_without_annotation_file_is_named(split):
    write(split, "", "x")
    (split / "annotations" / "x.txt").unlink()
    with pytest.raises(DataError, match=r"for 'x', got an image and no annotation file \(1 such\)\. Fix: "):
        open_split(split)


def test_an_annotation_file_without_image_is_named(split):
    write(split, "", "x")
    (split / "images" / "x.jpg").unlink()
    with pytest.raises(DataError, match=r"for 'x', got an annotation file and no image"):
        open_split(split)


def test_what_macos_and_windows_leave_behind_is_passed_over(split):
    write(split, "1,2,3,4,1,4,0,0")
    for name in ("._0000001_00000_d_0000001", ".hidden"):
        (split / "images" / f"{name}.jpg").write_bytes(b"x")
        (split / "annotations" / f"{name}.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    (split / "images" / "Thumbs.db").write_bytes(b"x")
    data = open_split(split)
    assert data.file_names == ("0000001_00000_d_0000001.jpg",)
    assert VisDrone(split.parent).count_images("train") == 1


def test_two_images_of_one_name_are_named_before_any_work(split):
    write(split, "1,2,3,4,1,4,0,0", stem="a")
    write(split, "1,2,3,4,1,4,0,0", stem="a", suffix=".png")
    with pytest.raises(DataError, match=r"a\.jpg: expected one image for a\.txt, got two .*Fix: remove one"):
        open_split(split)


def test_missing_folders_and_empty_folders_are_named(split):
    with pytest.raises(DataError, match=r"images: expected images, found none\. Fix: "):
        open_split(split)
    with pytest.raises(
        DataError, match=r"VisDrone2019-DET-test-dev/images: expected a folder, found none\. Fix: unpack"
    ):
        VisDrone(split.parent).open("test", split.parent / "cache")


def test_an_unknown_split_is_an_error(split):
    with pytest.raises(ValueError, match=r"split: expected one of .*'train', 'val', 'test'.*, got 'trian'"):
        VisDrone(split.parent).open("trian")


@pytest.mark.skipif(not HIT_UAV.exists(), reason="the real data set is optional")
def test_the_same_real_data_reads_the_same_in_both_formats(split):
    images = HIT_UAV / "images"
    coco = CocoJson(images, HIT_UAV / "annotations/val.json", images, HIT_UAV / "annotations/val.json")
    reference = coco.open("val", split.parent / "cache")
    chosen = range(0, len(reference), 13)
    for index in chosen:
        name = Path(reference.file_names[index])
        (split / "images" / name).symlink_to((images / name).resolve())
        text = (HIT_UAV / "visdrone_txt" / f"{name.stem}.txt").resolve()
        (split / "annotations" / text.name).symlink_to(text)
    by_name = {reference.file_names[index]: reference.annotations(index) for index in chosen}
    for example in open_split(split):
        expected = by_name[example.file_name]
        assert sorted(example.classes.tolist()) == sorted(expected.classes.tolist())
        assert len(example.ignore) == len(expected.ignore)
        # The text format holds whole px.
        np.testing.assert_allclose(np.sort(example.boxes, 0), np.sort(expected.boxes, 0), atol=1.0)
