"""Contact sheet of a data check: which images it shows, and where boxes are in the part that is shown."""

import cv2
import numpy as np
import pytest

from data_pipeline import Example, dataset_from_examples
from data_pipeline.check import check_splits
from ugs_jax.report import draw_data_sheet, sheet_panels


def image_with(boxes, seed, size=(600, 900), damaged=False):
    """A grey picture in which every box (x0, y0, x1, y1) is filled with its own colour."""
    pixels = np.full((*size, 3), 40 + seed, np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        pixels[y0:y1, x0:x1] = (5 * number + 100, 200, 0)
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    table = np.array(boxes, np.float32).reshape(-1, 4)
    classes, ignore = np.arange(len(boxes), dtype=np.int32) % 2, np.array([[700, 500, 880, 590]], np.float32)
    return Example(data[:400] if damaged else data, table, classes, ignore, seed, f"{seed}.png", *size)


@pytest.fixture(scope="module")
def panels():
    many = [(40 * i, 100, 40 * i + 20, 120) for i in range(12)]
    examples = [
        image_with([(100, 100, 160, 160), (100, 100, 160, 160)], 0),  # a fault: one place, two classes
        image_with([(850, 20, 856, 26), (830, 40, 850, 60), (10, 10, 18, 18)], 1),
        image_with(many, 2),
        image_with([(5, 5, 7, 7)] * 20, 3, damaged=True),
        image_with([], 4),
    ]
    dataset = dataset_from_examples(examples, ["car", "person"])
    return sheet_panels(check_splits([dataset]), [dataset], each=1)


def test_faulty_small_and_crowded_images_are_shown_once_and_unreadable_ones_are_left_out(panels):
    assert [panel.title for panel in panels] == [
        "train: 0.png, 1 fault",
        "train: 1.png, smallest objects, median √area 8.0 px",
        "train: 2.png, most objects, 12",
    ]


def test_the_part_around_the_smallest_object_has_the_boxes_of_the_objects_in_it(panels):
    part = panels[1]
    assert part.image.shape == (480, 480, 3)
    assert len(part.boxes) == 2  # the third is 400 px away
    for (x0, y0, x1, y1), red in zip(part.boxes.astype(int), (100, 105), strict=True):
        assert (part.image[y0:y1, x0:x1] == (red, 200, 0)).all()
        assert (part.image[y0 - 1, x0 - 1] == 41).all()
    np.testing.assert_array_equal(part.boxes[0, 2:] - part.boxes[0, :2], [6, 6])


def test_panels_are_drawn_in_columns_above_a_legend(panels):
    sheet = draw_data_sheet(panels, ["car", "person"], columns=2, panel_width=300)
    assert sheet.shape[1] == 2 * 300 + 8
    rows = (28 + 300 + 8) + (
        28 + 200 + 8
    )  # titles, pictures and gaps: the square part beside 900 × 600, then 900 × 600
    assert rows < sheet.shape[0] < rows + 60
    grey = (sheet == (150, 156, 164)).all(axis=-1)
    assert grey[:400, :300].any()


def test_a_sheet_without_images_is_refused():
    with pytest.raises(ValueError, match="expected at least one image, got none; pass images that can be read"):
        draw_data_sheet([], ["car"])
