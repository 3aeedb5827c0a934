"""Annotations in tiles, against counts of pixels."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from data_pipeline import Example
from data_pipeline.tiling.cutting import covers, cut_annotations
from data_pipeline.tiling.windows import Window, tile_starts, tile_windows


@st.composite
def images(draw):
    """Height, width, tile, overlap, and boxes with whole numbers as coordinates inside the image."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    tile = draw(st.integers(4, 60)), draw(st.integers(4, 60))
    overlap = draw(st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.7]))
    boxes = []
    for _ in range(draw(st.integers(0, 6))):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
    return height, width, tile, overlap, boxes


def annotated(height, width, boxes, regions=()):
    table = np.array(boxes, np.float32).reshape(-1, 4)
    ignore = np.array(regions, np.float32).reshape(-1, 4)
    return Example(b"", table, np.arange(len(table), dtype=np.int32), ignore, 3, "a.png", height, width)


def counted(height, width, windows):
    """Number of windows that show each pixel of an image."""
    count = np.zeros((height, width), int)
    for top, left, rows, columns in windows:
        count[top : top + rows, left : left + columns] += 1
    return count


@given(images())
def test_windows_show_every_pixel_and_stay_inside_an_image_that_is_larger_than_a_tile(image):
    height, width, tile, overlap, _ = image
    windows = tile_windows(height, width, tile, overlap)
    assert counted(height, width, windows).min() >= 1
    assert len(set(windows)) == len(windows)
    for top, left, rows, columns in windows:
        assert (rows, columns) == tile
        assert top == 0 or top + rows <= height
        assert left == 0 or left + columns <= width


@given(images())
def test_visible_areas_add_up_to_the_number_of_times_that_a_pixel_is_shown(image):
    height, width, tile, overlap, boxes = image
    windows = tile_windows(height, width, tile, overlap)
    cut = cut_annotations(annotated(height, width, boxes), windows, 0.0)  # every visible part is an object
    count = counted(height, width, windows)
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        shown = np.concatenate([each.boxes[each.classes == k] for each in cut.tiles])
        assert np.prod(shown[:, 2:] - shown[:, :2], axis=1).sum() == count[y1:y2, x1:x2].sum()


@given(images(), st.sampled_from([0.1, 0.5, 0.75, 1.0]))
def test_a_part_is_an_object_by_the_share_of_its_pixels_and_otherwise_an_ignore_region(image, keep_visible):
    height, width, tile, overlap, boxes = image
    windows = tile_windows(height, width, tile, overlap)
    cut = cut_annotations(annotated(height, width, boxes), windows, keep_visible)
    best = np.zeros(len(boxes))
    for window, found in zip(windows, cut.tiles, strict=True):
        objects, regions = [], []
        for k, (x1, y1, x2, y2) in enumerate(boxes):
            mask = np.zeros((height, width), bool)
            mask[y1:y2, x1:x2] = True
            rows, columns = np.nonzero(mask[window.top : window.top + tile[0], window.left : window.left + tile[1]])
            share = len(rows) / mask.sum()
            best[k] = max(best[k], share)
            if len(rows):
                part = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                (objects if share >= keep_visible else regions).append((k, part))
        assert found.classes.tolist() == [k for k, _ in objects]
        np.testing.assert_array_equal(found.boxes, np.reshape([part for _, part in objects], (-1, 4)))
        np.testing.assert_array_equal(found.ignore, np.reshape([part for _, part in regions], (-1, 4)))
    np.testing.assert_allclose(cut.visible, best, rtol=1e-12)


@given(st.data())
def test_an_object_no_longer_than_the_overlap_is_whole_in_a_tile(data):
    height, width = data.draw(st.integers(20, 400)), data.draw(st.integers(20, 400))
    tile, overlap = data.draw(st.integers(20, 100)), data.draw(st.sampled_from([0.1, 0.2, 0.5]))
    sides = [data.draw(st.floats(1.0, min(overlap * tile, length))) for length in (width, height)]
    corner = [data.draw(st.floats(0, length - side)) for length, side in zip((width, height), sides, strict=True)]
    box = np.float32([[*corner, corner[0] + sides[0], corner[1] + sides[1]]])
    if (box[0, 2:] - box[0, :2] > overlap * tile).any():  # rounding to float32
        return
    example = annotated(height, width, [])._replace(boxes=box, classes=np.zeros(1, np.int32))
    assert cut_annotations(example, tile_windows(height, width, (tile, tile), overlap), 1.0).visible.tolist() == [1.0]


def test_ignore_regions_are_clipped_and_thin_parts_of_objects_dropped():
    box, region = (9.75, 0, 19.75, 4), (5.0, 5, 25, 9)
    example = annotated(10, 30, [box], [region])
    left, middle, right = cut_annotations(example, [Window(0, 10 * k, 10, 10) for k in range(3)], 0.5).tiles
    assert left.ignore.tolist() == [[5, 5, 10, 9]]  # 0.25 px of the object are no ignore region
    assert middle.boxes.tolist() == [[0, 0, 9.75, 4]]
    assert middle.ignore.tolist() == [[0, 5, 10, 9]]
    assert right.ignore.tolist() == [[0, 5, 5, 9]]
    assert (right.height, right.width, right.image_id, right.file_name) == (10, 10, 3, "a.png")


@pytest.mark.parametrize(
    ("boxes", "regions", "ignored"),
    [
        ([], [], [False, False]),
        ([], [(0, 0, 10, 10)], [True, False]),
        ([], [(0, 0, 6, 10), (5, 0, 15, 10)], [True, False]),
        ([], [(0, 0, 6, 10), (6, 0, 15, 9)], [False, False]),
        ([(1, 1, 4, 4)], [(0, 0, 20, 10)], [False, True]),  # a tile with an object is kept
        ([(8, 0, 20, 10)], [(0, 0, 9, 10)], [True, False]),  # region and part of an object
    ],
)
def test_a_tile_is_ignored_if_it_has_no_object_and_ignore_regions_cover_it(boxes, regions, ignored):
    cut = cut_annotations(annotated(10, 20, boxes, regions), [Window(0, 0, 10, 10), Window(0, 10, 10, 10)], 0.5)
    assert cut.all_ignored.tolist() == ignored


def test_only_the_part_of_a_tile_inside_the_image_has_to_be_ignored():
    assert cut_annotations(annotated(4, 6, [], [(0, 0, 6, 4)]), [Window(0, 0, 10, 10)], 0.5).all_ignored.tolist() == [
        True
    ]


@given(st.lists(st.tuples(*[st.integers(-2, 8)] * 4), max_size=6))
def test_regions_cover_an_area_if_they_cover_its_pixels(corners):
    regions = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]).reshape(-1, 4)
    seen = np.zeros((5, 6), bool)
    for x1, y1, x2, y2 in regions.clip(0):
        seen[y1:y2, x1:x2] = True
    assert covers(regions.astype(np.float32), (5, 6)) == seen.all()


def test_the_positions_of_the_documentation():
    assert tile_starts(1500, tile=640, overlap=0.2) == [0, 512, 860]
