"""Label files of YOLO, each rule of the format against rows written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError
from data_pipeline.cleaning import ZERO_SIDED
from data_pipeline.sources.yolo_labels import (
    BEYOND,
    COLUMNS,
    KEYPOINTS,
    NOT_NUMBERS,
    POLYGONS,
    REPEATED,
    UNKNOWN_CLASS,
    read_labels,
)
from tests.data_pipeline.yolo_files import write_text

GOOD = "1 0.5 0.5 0.2 0.4"


@pytest.fixture
def read(tmp_path):
    return lambda text, classes=2, **options: read_labels(write_text(tmp_path / "a.txt", text), classes, **options)


def test_five_values_are_class_centre_and_sides(read):
    labels = read("1 0.5 0.25 0.2 0.1\n0 0.1 0.9 0.2 0.2\n")
    np.testing.assert_allclose(labels.boxes, [[0.4, 0.2, 0.6, 0.3], [0, 0.8, 0.2, 1]], atol=1e-12)
    assert labels.classes.tolist() == [1, 0]
    assert (labels.faults, labels.summary, labels.rows) == ((), {}, 2)


def test_seven_or_more_values_are_a_polygon_and_the_box_around_it_is_used(read):
    labels = read("0 .1 .2 .5 .1 .3 .6\n1 .1 .1 .4 .1 .4 .3 .1 .3\n")
    np.testing.assert_allclose(labels.boxes, [[0.1, 0.1, 0.5, 0.6], [0.1, 0.1, 0.4, 0.3]])
    assert labels.summary == {POLYGONS: 2}


def test_a_box_among_polygons_stays_a_box(read):
    labels = read(f"0 .1 .2 .5 .1 .3 .6\n{GOOD}\n")
    np.testing.assert_allclose(labels.boxes[1], [0.4, 0.3, 0.6, 0.7])
    assert labels.faults == ()


def test_rows_with_keypoints_are_boxes_where_the_yaml_has_their_shape(read):
    labels = read("0 .5 .5 .2 .2 .4 .4 2 .6 .6 2\n", keypoint_values=6)
    np.testing.assert_allclose(labels.boxes, [[0.4, 0.4, 0.6, 0.6]])
    assert labels.summary == {KEYPOINTS: 1}


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        ("0 .5 .5 .2", COLUMNS, "got 4 values"),
        ("0", COLUMNS, "got 1 value\\."),
        ("0 .5 .5 .2 .2 .9", COLUMNS, "got 6 values, as in predictions with a confidence"),
        ("0 .5 .5 .2 .2 .4 .4 2", COLUMNS, "got 8 values, as in labels with keypoints; these need `kpt_shape`"),
        ("car .5 .5 .2 .2", NOT_NUMBERS, "got 'car'"),
        ("0,.5,.5,.2,.2", COLUMNS, "got 1 value"),
        ("0, .5, .5, .2, .2", NOT_NUMBERS, "numbers separated by spaces, got '0,'"),
        ("0 nan .5 .2 .2", NOT_NUMBERS, "got 'nan'"),
        ("0 .5 inf .2 .2", NOT_NUMBERS, "got 'inf'"),
        ("2 .5 .5 .2 .2", UNKNOWN_CLASS, "expected a class from 0 to 1, as data.yaml has 2, got 2"),
        ("-1 .5 .5 .2 .2", UNKNOWN_CLASS, "got -1"),
        ("0.5 .5 .5 .2 .2", UNKNOWN_CLASS, "got 0.5"),
        ("0 1.02 .5 .2 .2", BEYOND, r"\(px divided by the image's width or height\), got 1.02"),
        ("0 .5 .5 .2 -.2", BEYOND, "got -.2"),
        ("0 .1 .1 .2 .2 340 .3", BEYOND, "got 340"),
        ("0 .5 .5 0 .2", ZERO_SIDED, "expected a box with sides above 0, got 0 .5 .5 0 .2"),
        ("0 .5 .5 .2 -.005", ZERO_SIDED, "expected a box with sides above 0"),
        ("0 .1 .1 .2 .1 .3 .1", ZERO_SIDED, "expected a box with sides above 0"),
    ],
)
def test_a_faulty_row_is_dropped_and_named_and_the_others_are_used(read, tmp_path, row, reason, message):
    labels = read(f"{GOOD}\n\n{row}\n0 .2 .2 .1 .1\n")
    assert labels.classes.tolist() == [1, 0]
    assert labels.summary == {reason: 1}
    (fault,) = labels.faults
    assert fault.startswith(f"{tmp_path / 'a.txt'}:3: ")
    assert fault.endswith("Fix: correct or remove the row.")
    with pytest.raises(ValueError, match=message):
        raise ValueError(fault)


@pytest.mark.parametrize("row", ["0 1.009 .5 .2 .2", "1.0 .5 .5 .2 .2", "0 -.009 .5 .2 .2", "0 .5 .5 1.01 1.01"])
def test_what_the_format_allows_passes(read, row):
    labels = read(row)
    assert len(labels.boxes) == 1
    assert labels.faults == ()


@pytest.mark.parametrize(
    "data",
    [
        f"\ufeff{GOOD}\n".encode(),
        f"{GOOD}\r\n".encode(),
        f"{GOOD}\r".encode(),
        f"{GOOD}\n".encode("utf-16"),
        b"\xff\xfe" + f"{GOOD}\n".encode("utf-16-le"),
        f"\t{GOOD}  ".replace(" ", "  ").encode(),
    ],
)
def test_text_of_any_program_is_read(read, data):
    labels = read(data)
    np.testing.assert_allclose(labels.boxes, [[0.4, 0.3, 0.6, 0.7]])
    assert labels.faults == ()


@pytest.mark.parametrize("text", ["", "\n", " \r\n\r\n"])
def test_an_empty_file_has_no_rows(read, text):
    assert read(text).rows == 0


def test_a_missing_file_is_none(tmp_path):
    assert read_labels(tmp_path / "none.txt", 2) is None


@pytest.mark.parametrize(("data", "message"), [(b"\xe9\x80", "invalid byte at position 0"), (b"0 \0 1", "null bytes")])
def test_a_file_that_is_no_text_is_an_error(read, data, message):
    with pytest.raises(DataError, match=rf"a\.txt: expected a label file.*{message}.*Fix: "):
        read(data)


def test_repeated_rows_count_once_and_keep_their_order(read):
    labels = read(f"{GOOD}\n0 .2 .2 .1 .1\n{GOOD}\n1 .50 .5 .2 .4\n")
    assert labels.classes.tolist() == [1, 0]
    assert labels.summary == {REPEATED: 2}
    assert labels.rows == 4


def test_rounding_does_not_move_a_box_over_the_border(read):
    np.testing.assert_array_equal(read("0 0.04999 0.5 0.1 1.0001").boxes[0, [0, 1, 3]], [0, 0, 1])
    assert read("0 0.04 0.5 0.1 1").boxes[0, 0] == pytest.approx(-0.01)


ROWS = st.lists(
    st.tuples(st.integers(0, 8), st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 4)).filter(
        lambda row: abs(row[1][0] - row[1][2]) > 1e-3 and abs(row[1][1] - row[1][3]) > 1e-3
    ),
    max_size=8,
    unique=True,
)


@given(ROWS, st.booleans())
def test_boxes_and_polygons_come_back_as_written(tmp_path_factory, rows, as_polygons):
    path = tmp_path_factory.getbasetemp() / "written.txt"
    lines, boxes = [], []
    for label, (x, y, u, v) in rows:
        left, right, top, bottom = min(x, u), max(x, u), min(y, v), max(y, v)
        boxes.append([left, top, right, bottom])
        points = [left, top, right, top, right, bottom, left, bottom]
        centre = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        lines.append(" ".join(map(repr, [label, *(points if as_polygons else centre)])))
    path.write_text("\n".join(lines))
    labels = read_labels(path, 9)
    np.testing.assert_allclose(labels.boxes, np.array(boxes).reshape(-1, 4), atol=1e-15)  # a few roundings
    assert labels.classes.tolist() == [label for label, _ in rows]
