"""JSON and pictures of detections."""

import json

import numpy as np
import pytest
from PIL import Image

from ugs_jax.evaluation import ImageDetections
from ugs_jax.report import (
    Prediction,
    SheetRow,
    draw_contact_sheet,
    draw_detections,
    write_contact_sheet,
    write_predictions,
)
from ugs_jax.report.plots.colors import IGNORED, box_color

CLASSES = ("car", "person")
FILES = ("predictions.json", "dataset.json", "summary.json")
GREY = np.full((100, 200, 3), 90, np.uint8)


def detections(boxes, scores, classes, deviation=None):
    return ImageDetections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.array(classes, np.int32), deviation
    )


def prediction(file_name="a.jpg", scores=(0.9, 0.1), classes=(0, 1), deviation=None):
    boxes = [[10, 20, 30, 45], [60, 60, 65, 66]]
    return Prediction(file_name, GREY, detections(boxes, scores, classes, deviation))


def colored(picture, color):
    return (picture == np.array(color, np.uint8)).all(-1)


def draw(boxes, classes, scores, image=GREY):
    return draw_detections(image, detections(boxes, scores, classes), CLASSES)


def test_lines_lie_just_outside_the_box():
    picture = draw([[10, 20, 30, 45]], [0], [0.9])
    scale = picture.shape[1] // GREY.shape[1]
    drawn = colored(picture[: GREY.shape[0] * scale], box_color(0))
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert (columns[0], columns[-1]) == (10 * scale - 2, 30 * scale + 1)
    assert (rows[0], rows[-1]) == (20 * scale - 2, 45 * scale + 1)
    assert not drawn[20 * scale : 45 * scale, 10 * scale : 30 * scale].any()


def test_detections_below_the_threshold_are_not_drawn():
    assert not colored(draw([[10, 20, 30, 45]], [1], [0.2]), box_color(1)).any()


def test_small_images_are_enlarged_and_large_ones_kept():
    assert draw(np.zeros((0, 4)), [], []).shape[1] == 7 * 200
    assert draw(np.zeros((0, 4)), [], [], image=np.zeros((10, 1500, 3), np.uint8)).shape[1] == 1500


def test_drawing_leaves_the_image_unchanged():
    image = GREY.copy()
    draw([[10, 20, 30, 45]], [0], [0.9], image=image)
    np.testing.assert_array_equal(image, GREY)


def test_boxes_beyond_the_border_and_without_area_can_be_drawn():
    picture = draw([[-20, -20, 500, 500], [5, 5, 5, 5], [199, 99, 200, 100]], [0, 0, 1], [0.9, 0.9, 0.9])
    assert colored(picture, box_color(1)).any()


def rows(folder, predictions):
    return json.loads(write_predictions(folder, predictions, CLASSES).files["coco"].read_text())


def images(folder):
    return json.loads((folder / "dataset.json").read_text())["images"]


def test_the_json_file_lists_every_detection_best_first(tmp_path):
    written = rows(tmp_path, [prediction(scores=(0.1, 0.9))])
    assert images(tmp_path) == [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100, "picture": "a.png"}]
    assert [(row["class"], row["score"], row["bbox"]) for row in written] == [
        ("person", 0.9, [60.0, 60.0, 5.0, 6.0]),
        ("car", 0.1, [10.0, 20.0, 20.0, 25.0]),
    ]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] == 1400


def test_deviations_are_written_if_they_are_predicted(tmp_path):
    deviation = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    written = rows(tmp_path, [prediction(scores=(0.1, 0.9), deviation=deviation)])
    assert [each["deviation"] for each in written] == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert not any("deviation" in each for each in rows(tmp_path, [prediction()]))


def test_no_images_give_an_empty_list(tmp_path):
    assert rows(tmp_path / "new", []) == []
    assert images(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("names", "pictures"),
    [
        (["a.jpg", "b/a.png", "b_A.jpeg"], ["a.png", "b_a.png", "b_A-2.png"]),
        (["../../etc/passwd", "C:\\drone\\x y.jpg"], ["etc_passwd.png", "drone_x_y.png"]),
        (["predictions.json", "..", "ä:?.jpg"], ["predictions-2.png", "image.png", "ä__.png"]),
    ],
)
def test_picture_names_are_safe_and_distinct(tmp_path, names, pictures):
    write_predictions(tmp_path / "out", [prediction(name) for name in names], CLASSES)
    assert [entry["picture"] for entry in images(tmp_path / "out")] == pictures
    assert {file.name for file in (tmp_path / "out").iterdir()} == {*pictures, *FILES}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_files_are_replaced_and_nothing_unfinished_stays(tmp_path):
    write_predictions(tmp_path, [prediction()], CLASSES)
    write_predictions(tmp_path, [prediction(scores=(0.5, 0.4))], CLASSES)
    assert {file.name for file in tmp_path.iterdir()} == {*FILES, "a.png"}
    assert json.loads((tmp_path / "predictions.json").read_text())[0]["score"] == 0.5


def test_a_label_without_a_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg: expected class indices 0…1, got 2; pass the class names"):
        write_predictions(tmp_path, [prediction(classes=(0, 2))], CLASSES)


def test_scores_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg: expected finite boxes and scores"):
        write_predictions(tmp_path, [prediction(scores=(np.nan, 0.5))], CLASSES)


def sheet_row(image=GREY, ignore=()):
    boxes = np.array([[10, 20, 30, 45], [60, 60, 65, 66]], np.float32)
    regions = np.array(ignore, np.float32).reshape(-1, 4)
    return SheetRow(image, boxes, np.array([0, 1], np.int32), regions, detections(boxes, [0.9, 0.1], [0, 1]))


def test_the_contact_sheet_has_truth_on_the_left_and_detections_on_the_right(tmp_path):
    path = write_contact_sheet(tmp_path / "predictions.png", [sheet_row(), sheet_row()], CLASSES)
    with Image.open(path) as opened:
        picture = np.asarray(opened)
    images = picture[:-60]  # above the legend
    left, right = images[:, :800], images[:, 808:]
    assert colored(left, box_color(0)).any()
    assert colored(right, box_color(0)).any()
    assert colored(left, box_color(1)).any()
    assert not colored(right, box_color(1)).any()


def test_the_contact_sheet_crosses_out_ignored_regions():
    assert not colored(draw_contact_sheet([sheet_row()], CLASSES), IGNORED).any()
    assert colored(draw_contact_sheet([sheet_row(ignore=[[100, 10, 150, 60]])], CLASSES), IGNORED).any()


def test_images_of_different_shapes_share_a_contact_sheet():
    tall = np.full((300, 100, 3), 90, np.uint8)
    assert draw_contact_sheet([sheet_row(), sheet_row(tall)], CLASSES).shape[1] == 1608


def test_an_empty_contact_sheet_is_refused():
    with pytest.raises(ValueError, match="contact sheet: expected at least one image, got none"):
        draw_contact_sheet([], CLASSES)
