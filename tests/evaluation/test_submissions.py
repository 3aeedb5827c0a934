"""VisDrone submissions: written, read back, and refused if they are invalid."""

import re
import zipfile

import numpy as np
import pytest

from data_pipeline import DataError
from ugs_jax.evaluation import (
    TruthImage,
    read_submission,
    submission,
    visdrone_scores,
    visdrone_table,
    write_submission,
)

ROW = "1,2,3,4,0.5,1,-1,-1"


def some_detections(image_id, count):
    rng = np.random.default_rng(image_id)
    boxes = np.concatenate([rng.uniform(0, 500, (count, 2)), rng.uniform(1, 80, (count, 2))], axis=1).tolist()
    columns = zip(rng.integers(1, 11, count).tolist(), boxes, rng.uniform(size=count).tolist(), strict=True)
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score} for category, box, score in columns
    ]


@pytest.fixture
def found():
    """Detections of three images, the last of which has none."""
    return some_detections(0, 40) + some_detections(1, 1)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_what_is_written_is_read_back_best_score_first(tmp_path, found, kind):
    archive = write_submission(tmp_path / "results", ["a", "b", "c"], found)
    assert archive == tmp_path / "results.zip"
    got = read_submission(tmp_path / "results" if kind == "folder" else archive, ["a", "b", "c"], classes=10)
    want = sorted(found, key=lambda row: (row["image_id"], -row["score"]))
    for before, after in zip(want, got, strict=False):
        assert (after["image_id"], after["category_id"]) == (before["image_id"], before["category_id"])
        np.testing.assert_allclose(after["bbox"], before["bbox"], rtol=0, atol=0.5e-3 + 1e-9)  # three decimals
        assert after["score"] == pytest.approx(before["score"], abs=0.5e-6 + 1e-9)  # six
    assert [row["score"] for row in got[len(want) :]] == [0.0]  # of the image without detections


def test_an_image_without_detections_gets_a_row_that_the_toolkit_can_read_and_that_changes_no_score(tmp_path, found):
    write_submission(tmp_path / "results", ["a", "b", "c"], found)
    assert (tmp_path / "results" / "c.txt").read_text() == "0,0,1,1,0,1,-1,-1\n"
    truth = []
    for of_image in (found[:40], found[40:], found[40:]):
        boxes, categories = np.array([row["bbox"] for row in of_image]), [row["category_id"] for row in of_image]
        truth.append(TruthImage(boxes + 1, np.array(categories), np.ones(len(boxes), bool)))
    read = read_submission(tmp_path / "results", ["a", "b", "c"], classes=10)
    names = [str(k) for k in range(10)]
    with_row = visdrone_scores(visdrone_table(truth, read, 10), names)
    without = visdrone_scores(visdrone_table(truth, read[:-1], 10), names)
    assert with_row == without
    assert 0 < with_row["ap"] < 1


def test_a_row_has_eight_columns_of_which_the_last_two_are_minus_one(tmp_path):
    row = {"image_id": 0, "category_id": 10, "bbox": [1.25, 2, 3, 4.0], "score": 0.75}
    write_submission(tmp_path / "results", ["a"], [row])
    assert (tmp_path / "results" / "a.txt").read_text() == "1.250,2.000,3.000,4.000,0.750000,10,-1,-1\n"


def test_the_archive_has_one_file_for_each_image_at_its_top_level_and_is_the_same_every_time(tmp_path, found):
    first = write_submission(tmp_path / "results", ["a", "b", "c"], found).read_bytes()
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert archive.namelist() == ["a.txt", "b.txt", "c.txt"]
        assert archive.read("a.txt") == (tmp_path / "results" / "a.txt").read_bytes()
    assert write_submission(tmp_path / "results", ["a", "b", "c"], found).read_bytes() == first


def test_files_of_former_images_are_removed(tmp_path, found):
    write_submission(tmp_path / "results", ["old", "b", "c"], found)
    write_submission(tmp_path / "results", ["a", "b", "c"], found)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["a.txt", "b.txt", "c.txt"]


def test_two_images_of_one_name_are_refused(tmp_path, found):
    with pytest.raises(ValueError, match="expected a unique name for each image, got 'a' twice"):
        write_submission(tmp_path / "results", ["a", "a", "c"], found)


def test_detections_of_an_image_without_a_name_are_refused(tmp_path, found):
    with pytest.raises(ValueError, match="image_id 1: expected 0…0, the index of a name"):
        write_submission(tmp_path / "results", ["a"], found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ROW}\n1,2,3,4,0.5,1,-1\n", "a.txt:2: expected 8 columns, left,top,width,height,score,category"),
        (f"{ROW}\n\n1,2,three,4,0.5,1,-1,-1", "a.txt:3: expected numbers, got '1,2,three,4,0.5,1,-1,-1'"),
        ("1,2,nan,4,0.5,1,-1,-1", "a.txt:1: expected finite numbers"),
        ("1,2,3,4,inf,1,-1,-1", "a.txt:1: expected finite numbers"),
        ("9,9,-3,4,0.5,1,-1,-1", "a.txt:1: expected width and height of at least 0, got -3 and 4"),
        ("1,2,3,4,0.5,12,-1,-1", "a.txt:1: expected a category from 1 to 10"),
        ("1,2,3,4,0.5,1.5,-1,-1", "a.txt:1: expected a category from 1 to 10"),
        (f"{ROW}\n1,2,3,4,0.4,1,-1,-1\n{ROW}", "a.txt:3: expected every detection once, got the row of line 1 again"),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_submission(tmp_path, ["a"], classes=10)


def test_other_bytes_than_text_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.txt: expected UTF-8 text, got other bytes"):
        read_submission(tmp_path, ["a"], classes=10)


def test_trailing_commas_blank_lines_and_empty_files_are_read(tmp_path):
    (tmp_path / "a.txt").write_text(f"\ufeff{ROW},\r\n\r\n 5, 6, 7, 8, 1, 11, -1, -1")
    (tmp_path / "b.txt").write_text("")
    assert read_submission(tmp_path, ["a", "b"], classes=10) == [
        {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 0, "category_id": 11, "bbox": [5, 6, 7, 8], "score": 1},
    ]


def test_a_missing_result_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(ROW)
    with pytest.raises(DataError, match=r"b.txt: expected a result file for each of 3 images, found none for 2"):
        read_submission(tmp_path, ["a", "b", "c"], classes=10)


def test_a_result_file_of_no_image_is_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(ROW)
    with pytest.raises(DataError, match=r"b\.txt: expected result files with the names of the annotation files"):
        read_submission(tmp_path, ["a"], classes=10)


def test_a_missing_folder_or_archive_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere: expected a folder or a zip archive of result files"):
        read_submission(tmp_path / "nowhere", ["a"], classes=10)


@pytest.mark.parametrize("name", ["../a.txt", "results/a.txt", "/a.txt", "..\\a.txt", "a.exe"])
def test_names_in_an_archive_that_lead_out_of_it_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), ROW)
    with pytest.raises(DataError, match="expected text files at the top level"):
        read_submission(tmp_path / "results.zip", ["a"], classes=10)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_files_of_one_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.writestr("a.txt", ROW)
        archive.writestr("a.txt", "")
    with pytest.raises(DataError, match=r"expected one 'a\.txt', got two"):
        read_submission(tmp_path / "results.zip", ["a"], classes=10)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "_LARGEST", 1 << 20)
    with zipfile.ZipFile(tmp_path / "results.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"\n" * (2 << 20))
    assert (tmp_path / "results.zip").stat().st_size < 10_000
    with pytest.raises(DataError, match="expected at most 1 MiB of results, got more"):
        read_submission(tmp_path / "results.zip", ["a"], classes=10)


@pytest.mark.parametrize("place", [None, 40, 60])
def test_a_damaged_archive_is_refused(tmp_path, found, place):
    data = bytearray(write_submission(tmp_path / "results", ["a", "b", "c"], found).read_bytes())
    if place is None:
        data = b"PK no archive"
    else:
        data[place : place + 8] = b"\xff" * 8  # within the compressed text of the first file
    (tmp_path / "results.zip").write_bytes(data)
    with pytest.raises(DataError, match="expected a zip archive, got one that cannot be read"):
        read_submission(tmp_path / "results.zip", ["a"], classes=10)
