"""Objects of a large image are found exactly once, wherever tile borders cut them."""

from functools import partial

import numpy as np
import pytest

from tests.inference.oracle import Counting, Oracle, ScaledOracle, position_image, shaded_image
from ugs_jax.inference import Merge, TestTimeAugmentation, Tiling, Window, detect_image, tile_windows
from ugs_jax.inference.passes import views_of
from ugs_jax.inference.tiles import overview

HEIGHT, WIDTH, TILE, OVERLAP = 500, 700, (160, 192), 0.25  # 40 and 48 px in common, at least
IMAGE = position_image(HEIGHT, WIDTH)


def scattered(cell, longest, seed):
    """One object in each square of `cell` px, so that none meet; sides from 3 px to `longest`."""
    rng = np.random.default_rng(seed)
    rows, columns = HEIGHT // cell, WIDTH // cell
    corner = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * cell
    sides = rng.integers(3, longest + 1, (len(corner), 2))
    low = corner + rng.integers(0, cell - sides + 1)
    return np.concatenate([low, low + sides], 1).astype(float), rng.integers(0, 3, len(corner))


def assert_found_once(found, boxes, labels, tolerance=1e-9):
    assert len(found.scores) == len(labels)
    order, want = np.lexsort(found.boxes.round(1).T), np.lexsort(boxes.round(1).T)
    np.testing.assert_allclose(found.boxes[order], boxes[want], atol=tolerance)
    assert found.classes[order].tolist() == labels[want].tolist()


@pytest.mark.parametrize("method", ["nms", "nmm"])
@pytest.mark.parametrize("seed", range(4))
def test_objects_up_to_the_overlap_minus_2_px_are_found_exactly_once(method, seed):
    boxes, labels = scattered(44, 38, seed)
    oracle = Oracle(IMAGE, boxes, labels, TILE, seed)
    tiling = Tiling(TILE, OVERLAP, batch=4, full_image=False, merge=Merge(method))
    found = detect_image(oracle, IMAGE, (256, 256), tiling=tiling)
    assert_found_once(found, boxes, labels)
    assert set(oracle.shapes) == {(4, *TILE, 3)}
    assert np.unique(found.deviation, axis=0).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("seed", range(4))
def test_longer_objects_are_assembled_from_their_parts(seed):
    boxes, labels = scattered(116, 115, seed)  # up to three times the overlap
    tiling = Tiling(TILE, OVERLAP, full_image=False)
    found = detect_image(Oracle(IMAGE, boxes, labels, TILE, seed), IMAGE, (256, 256), tiling=tiling)
    assert_found_once(found, boxes, labels)


def test_without_intersection_over_the_smaller_box_parts_stay():
    boxes, labels = scattered(44, 40, 0)
    tiling = Tiling(TILE, OVERLAP, full_image=False, merge=Merge("nms", "iou"))
    assert len(detect_image(Oracle(IMAGE, boxes, labels, TILE), IMAGE, (256, 256), tiling=tiling).scores) > len(labels)


def test_an_object_larger_than_a_tile_is_found_in_the_image_as_a_whole():
    boxes, labels = np.array([[20.0, 30, 660, 470]]), np.array([1])
    oracle = Oracle(IMAGE, boxes, labels, TILE)
    parts = Tiling(TILE, OVERLAP, batch=4, full_image=False, merge=Merge("nms"))
    assert len(detect_image(oracle, IMAGE, (256, 256), tiling=parts).scores) > 1
    for method in ("nms", "nmm"):
        whole = Tiling(TILE, OVERLAP, batch=4, merge=Merge(method))
        found = detect_image(oracle, IMAGE, (256, 256), tiling=whole)
        assert_found_once(found, boxes, labels, tolerance=1e-3)  # float32 at a scale of 0.37
    assert (1, 256, 256, 3) in oracle.shapes


def test_flipped_images_give_the_same_boxes_and_deviations():
    boxes, labels = scattered(44, 40, 1)
    oracle = Oracle(IMAGE, boxes, labels, TILE)
    tiling = Tiling(TILE, OVERLAP, full_image=False)
    found = detect_image(oracle, IMAGE, (256, 256), tiling=tiling, augmented=TestTimeAugmentation(flip=True))
    assert_found_once(found, boxes, labels, tolerance=1e-6)  # a weighted mean of equal numbers
    np.testing.assert_allclose(found.deviation, np.tile([1, 2, 3, 4], (len(labels), 1)))
    assert found.scores.min() >= 0.4  # in both views, so none is lowered


def test_an_image_smaller_than_a_tile_is_one_tile_padded_with_grey():
    image = position_image(50, 60)
    boxes, labels = np.array([[5.0, 6, 30, 50], [10.0, 20, 20, 30]]), np.array([1, 1])
    oracle = Oracle(image, boxes, labels, TILE)
    found = detect_image(oracle, image, (256, 256), tiling=Tiling(TILE, OVERLAP, batch=3))
    assert_found_once(found, boxes, labels)  # the one in the other too
    assert oracle.shapes == [(3, *TILE, 3)]


def test_an_image_on_disk_is_read_by_windows(tmp_path):
    boxes, labels = scattered(44, 40, 2)
    on_disk = np.memmap(tmp_path / "image", np.uint8, "w+", shape=IMAGE.shape)
    on_disk[:] = IMAGE
    want = detect_image(Oracle(IMAGE, boxes, labels, TILE), IMAGE, (256, 256), tiling=Tiling(TILE, OVERLAP))
    found = detect_image(Oracle(IMAGE, boxes, labels, TILE), on_disk, (256, 256), tiling=Tiling(TILE, OVERLAP))
    np.testing.assert_array_equal(found.boxes, want.boxes)


@pytest.mark.parametrize(("full_image", "largest"), [(False, TILE), (True, (170, WIDTH))])
def test_at_most_a_tile_or_a_band_of_an_image_is_read_at_once(monkeypatch, full_image, largest):
    monkeypatch.setattr("ugs_jax.inference.image.overview", partial(overview, in_memory=120_000))  # 171 rows
    boxes, labels = scattered(44, 38, 3)
    image = Counting(IMAGE)
    tiling = Tiling(TILE, OVERLAP, batch=4, full_image=full_image, merge=Merge("nms"))
    found = detect_image(Oracle(IMAGE, boxes, labels, TILE, 3), image, (256, 256), tiling=tiling)
    assert len(found.scores) == len(labels)
    assert image.largest == largest


@pytest.mark.parametrize("tiled", [False, True])
def test_views_at_several_scales_give_the_right_boxes(tiled):
    image, (boxes, labels) = shaded_image(HEIGHT, WIDTH), scattered(100, 30, 4)
    windows = tile_windows(HEIGHT, WIDTH, TILE, OVERLAP) if tiled else [Window(0, 0, HEIGHT, WIDTH)]
    oracle = ScaledOracle(image, boxes, labels, windows)
    tiling = Tiling(TILE, OVERLAP, full_image=False) if tiled else None
    augmented = TestTimeAugmentation(flip=True, scales=(1.0, 0.6, 1.5))
    found = detect_image(oracle, image, (256, 320), tiling=tiling, augmented=augmented)
    assert_found_once(found, boxes, labels, tolerance=1e-3)  # float32 coordinates, to and fro
    np.testing.assert_allclose(found.deviation, 2.0, rtol=1e-6)
    assert found.scores.min() >= 0.89  # in every view, so none is lowered
    sizes = {(160, 192), (96, 128), (256, 288)} if tiled else {(256, 320), (160, 192), (384, 480)}
    assert oracle.sizes == sizes


def test_boxes_with_low_scores_are_dropped():
    boxes, labels = scattered(44, 40, 2)
    oracle = Oracle(IMAGE, boxes, labels, TILE)
    tiling = Tiling(TILE, OVERLAP, full_image=False, min_score=0.5, merge=Merge("nms"))
    found = detect_image(oracle, IMAGE, (256, 256), tiling=tiling)
    assert 0 < len(found.scores) < len(labels)
    assert found.scores.min() > 0.5


@pytest.mark.parametrize(("height", "width"), [(50, 60), TILE])
def test_an_image_of_one_tile_keeps_low_scores_because_nothing_is_merged(height, width):
    image, boxes, labels = position_image(height, width), np.array([[5.0, 6, 30, 50], [10, 20, 20, 30]]), np.zeros(2)
    tiling = Tiling(TILE, OVERLAP, min_score=0.7)
    oracle = Oracle(image, boxes, labels.astype(int), TILE)
    assert oracle.scores.max() < tiling.min_score
    found = detect_image(oracle, image, (256, 256), tiling=tiling)
    assert found.scores.tolist() == sorted(oracle.scores, reverse=True)


def test_scales_are_rounded_to_sizes_that_the_levels_can_divide():
    views = views_of((640, 480), (1.0, 0.83, 0.01), flip=True)
    assert [view.size for view in views[::2]] == [(640, 480), (544, 384), (32, 32)]
    assert [view.flip for view in views] == [False, True] * 3
    with pytest.raises(ValueError, match="scales: expected at least one, all above 0"):
        views_of((64, 64), (1.0, 0.0), flip=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": (640, 600)}, r"multiples of 32, got \(640, 600\); try \(640, 608\)"),
        ({"overlap": 1.0}, r"overlap: expected a share"),
        ({"batch": 0}, r"batch: expected at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tiling(**arguments)
