"""Synthetic scenes: determined by the seed, with boxes that match the pixels and the published statistics."""

import dataclasses

import cv2
import numpy as np
import pytest

from data_pipeline import TinyScenes
from data_pipeline.decoding.images import decode_image
from data_pipeline.scenes.canvas import SUPERSAMPLING, Canvas
from data_pipeline.scenes.objects import draw_object
from data_pipeline.scenes.render import render_scene
from data_pipeline.scenes.statistics import (
    CLASS_SHARE,
    FULL,
    LIGHT,
    MEDIAN_SQRT_AREA,
    OBJECTS_PER_IMAGE_QUANTILES,
    QUANTILE_LEVELS,
)

CLASSES = tuple(CLASS_SHARE)
# Counted from the public VisDrone2019-DET-train annotations at `QUANTILE_LEVELS`.
SQRT_AREA_QUANTILES = (4.9, 7.75, 15.59, 26.08, 45.0, 99.7, 168.93)
ASPECT_QUANTILES = (0.29, 0.36, 0.57, 0.91, 1.47, 2.41, 2.97)


@pytest.fixture(scope="module")
def full_scenes():
    return [render_scene(np.random.default_rng([5, index]), 640, 640, FULL) for index in range(40)]


@pytest.fixture(scope="module")
def light_scenes():
    return [render_scene(np.random.default_rng([5, index]), 160, 160, LIGHT) for index in range(80)]


def sizes_and_aspects(scenes):
    sides = np.concatenate([scene.boxes[:, 2:] - scene.boxes[:, :2] for scene in scenes])
    return np.sqrt(sides.prod(1)), sides[:, 0] / sides[:, 1]


def blank(height=64, width=64):
    return Canvas(np.full((height * SUPERSAMPLING, width * SUPERSAMPLING, 3), 128, np.uint8))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("size", [6.0, 17.0, 40.0])
def test_the_box_of_an_object_is_its_extent_in_the_image(name, size):
    rng = np.random.default_rng([CLASSES.index(name), int(size)])
    canvas = blank()
    sprite = draw_object(name, rng, size * SUPERSAMPLING, heading=rng.uniform(0, 6.28), tilt=rng.uniform(0.6, 1))
    placed = canvas.paste(sprite, *(SUPERSAMPLING * rng.uniform(26, 38, 2)), owner=1)
    assert placed is not None
    changed = np.abs(canvas.image().astype(int) - 128).max(2) > 0
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    # The box is known to a third of a px, and a px partly covered belongs to the extent: less than one px each way. A
    # colour near the background's may hide an edge, which the lenient side of the bound allows for.
    difference = np.array(placed.box) - extent
    assert (difference[:2] > -1.0).all()
    assert (difference[:2] < 1.0).all()
    assert (difference[2:] > -1.0).all()
    assert (difference[2:] < 1.0).all()


@pytest.mark.parametrize("name", CLASSES)
def test_objects_have_the_size_asked_for(name):
    for index in range(10):
        rng = np.random.default_rng(index)
        sprite = draw_object(name, rng, 90.0, heading=rng.uniform(0, 6.28), tilt=0.8)
        # Filling an outline rounds each side outwards by up to 2 px, of the 40 px or more that it has.
        assert np.sqrt(sprite.mask.size) == pytest.approx(90.0, rel=0.04)


def test_an_object_covered_by_another_is_visible_to_the_uncovered_part():
    canvas = blank()
    sprite = draw_object("bus", np.random.default_rng(0), 60.0, heading=0.0, tilt=1.0)
    placed = canvas.paste(sprite, 96, 96, owner=1)
    assert placed is not None
    assert canvas.visible(placed, 1) == 1.0
    width = sprite.mask.shape[1]
    canvas.paste(sprite, 96 + width / 2, 96, owner=2)
    assert canvas.visible(placed, 1) == pytest.approx(0.5, abs=0.02)


def test_an_object_at_the_border_is_clipped_and_one_outside_is_dropped():
    canvas = blank()
    sprite = draw_object("car", np.random.default_rng(0), 60.0, heading=0.0, tilt=1.0)
    placed = canvas.paste(sprite, 0, 96, owner=1)
    assert placed is not None
    assert placed.box[0] == 0.0
    assert canvas.visible(placed, 1) == pytest.approx(0.5, abs=0.03)
    assert canvas.paste(sprite, -200, 96, owner=2) is None


def test_mostly_hidden_objects_are_ignore_regions_or_nothing():
    scenes = [render_scene(np.random.default_rng([1, index]), 96, 96, LIGHT) for index in range(60)]
    hidden = sum(len(scene.ignore) for scene in scenes)
    assert 0 < hidden < 0.1 * sum(len(scene.boxes) for scene in scenes)


@pytest.mark.parametrize("statistics", [LIGHT, FULL], ids=["light", "full"])
def test_boxes_lie_inside_the_image_and_have_sides(statistics):
    for index in range(6):
        scene = render_scene(np.random.default_rng(index), 96, 160, statistics)
        assert (scene.image.shape, scene.image.dtype) == ((96, 160, 3), np.uint8)
        for boxes in (scene.boxes, scene.ignore):
            assert boxes.dtype == np.float32
            assert (boxes >= 0).all()
            assert (boxes <= [160, 96, 160, 96]).all()
            assert (boxes[:, 2:] - boxes[:, :2] > 0).all()
        assert len(scene.classes) == len(scene.boxes)
        assert scene.classes.dtype == np.int32


def test_object_sizes_of_full_scenes_follow_the_published_quantiles(full_scenes):
    sizes, _ = sizes_and_aspects(full_scenes)
    # 40 images: the altitude alone leaves a standard error of 0.65 / √40 ≈ 10 % on every quantile.
    inner = slice(1, 6)
    measured = np.quantile(sizes, QUANTILE_LEVELS)[inner]
    np.testing.assert_allclose(measured, SQRT_AREA_QUANTILES[inner], rtol=0.3)


def test_aspect_ratios_of_full_scenes_follow_the_published_quantiles(full_scenes):
    _, aspects = sizes_and_aspects(full_scenes)
    np.testing.assert_allclose(np.quantile(aspects, QUANTILE_LEVELS), ASPECT_QUANTILES, rtol=0.25)


def test_class_shares_of_full_scenes_follow_the_published_ones(full_scenes):
    labels = np.concatenate([scene.classes for scene in full_scenes])
    share = np.bincount(labels, minlength=len(CLASSES)) / len(labels)
    np.testing.assert_allclose(share, list(CLASS_SHARE.values()), atol=0.03)


def test_larger_classes_of_full_scenes_are_larger(full_scenes):
    sizes, _ = sizes_and_aspects(full_scenes)
    labels = np.concatenate([scene.classes for scene in full_scenes])
    for name in ("pedestrian", "car", "motor", "van"):  # the classes with enough objects to tell
        median = np.median(sizes[labels == CLASSES.index(name)])
        assert median == pytest.approx(MEDIAN_SQRT_AREA[name], rel=0.35)


def test_counts_are_drawn_by_the_published_quantiles():
    rng = np.random.default_rng(0)
    counts = [FULL.draw_count(rng, 640, 640) for _ in range(4000)]
    np.testing.assert_allclose(np.quantile(counts, QUANTILE_LEVELS), OBJECTS_PER_IMAGE_QUANTILES, rtol=0.1)


def test_most_drawn_objects_are_placed_in_full_scenes(full_scenes):
    counts = np.quantile([len(scene.boxes) for scene in full_scenes], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(counts, OBJECTS_PER_IMAGE_QUANTILES[2:5], rtol=0.4)  # 40 images only


def test_full_scenes_have_ignore_regions_of_far_crowds(full_scenes):
    assert sum(len(scene.ignore) for scene in full_scenes) > 20


def test_light_scenes_hold_few_small_objects_of_each_class(light_scenes):
    sizes, _ = sizes_and_aspects(light_scenes)
    labels = np.concatenate([scene.classes for scene in light_scenes])
    assert ((sizes >= 6) & (sizes <= 32)).mean() > 0.9
    assert 9 <= np.median([len(scene.boxes) for scene in light_scenes]) <= 18
    assert (np.bincount(labels, minlength=2) / len(labels) > 0.25).all()


def test_images_vary_in_brightness_and_are_neither_black_nor_white(light_scenes):
    means = np.array([scene.image.mean() for scene in light_scenes])
    assert means.std() > 8
    assert means.min() > 25
    assert means.max() < 225


@pytest.fixture
def small():
    return TinyScenes(image_size=(64, 96), train_images=5, val_images=3, seed=1)


def test_a_scene_depends_on_seed_split_and_index_alone(small):
    more = dataclasses.replace(small, train_images=9)
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    first = small.example("train", 2)
    np.random.seed(1)  # noqa: NPY002
    assert more.example("train", 2).image == first.image
    others = [
        small.example("val", 2),
        small.example("train", 3),
        dataclasses.replace(small, seed=2).example("train", 2),
    ]
    assert all(other.image != first.image for other in others)


def test_number_of_opencv_threads_does_not_matter(small):
    threads = cv2.getNumThreads()
    many = small.example("train", 0)
    try:
        cv2.setNumThreads(1)
        assert small.example("train", 0).image == many.image
    finally:
        cv2.setNumThreads(threads)


def test_opened_splits_hold_the_rendered_scenes(small, tmp_path):
    train, val = small.open("train", tmp_path), small.open("val", tmp_path)
    assert (len(train), len(val)) == (5, 3)
    assert train.classes == small.classes == ("pedestrian", "car")
    expected = small.example("train", 4)
    assert train[4].image == expected.image
    np.testing.assert_array_equal(train[4].boxes, expected.boxes)
    assert decode_image(train[4].image, "scene").shape == (64, 96, 3)


def test_the_full_variant_has_the_ten_classes_of_visdrone():
    assert TinyScenes(variant="full").classes == CLASSES
    assert len(CLASSES) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (16, 64)}, r"image_size: expected sides of at least 32 px, got \(16, 64\)"),
        ({"train_images": 0}, r"expected at least 1, got 0 and"),
        ({"seed": -1}, r"seed: expected 0 or more, got -1"),
    ],
)
def test_invalid_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TinyScenes(**change)


def test_an_unknown_split_is_an_error(small):
    with pytest.raises(ValueError, match=r"split: expected one of \('train', 'val'\), got 'test'"):
        small.open("test")
