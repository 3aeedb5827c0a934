"""Augmentation: boxes follow the pixels, and boxes that leave the image follow the rule."""

import cv2
import numpy as np
import pytest

from data_pipeline.augment.augmentation import Augmentation, augmented, letterboxed, mix, random_warp
from data_pipeline.augment.clipping import clip_boxes, keep, warped_hulls
from data_pipeline.augment.geometry import rotation, translation
from data_pipeline.augment.warp import grey_canvas, paste
from data_pipeline.dataset import Example, dataset_from_examples
from data_pipeline.pictures import Pictures

WHITE = (250, 250, 250)


def example(image, boxes=(), classes=None, ignore=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Example(
        image=cv2.imencode(".png", image)[1].tobytes(),
        boxes=boxes,
        classes=np.zeros(len(boxes), np.int32) if classes is None else np.array(classes, np.int32),
        ignore=np.array(ignore, np.float32).reshape(-1, 4),
        image_id=0,
        file_name="drawn.png",
        height=image.shape[0],
        width=image.shape[1],
    )


def drawn_rectangle(size=(96, 128), box=(50, 40, 74, 58)):
    image = np.zeros((*size, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = WHITE
    return image, np.array([box], np.float32)


def pictures_of(*examples, size):
    return Pictures(dataset_from_examples(list(examples), ["thing"]), size, cache_bytes=0)


def extent_of(image: np.ndarray) -> np.ndarray:
    """Edges xyxy of the bright blob, to a fraction of a pixel: each edge pixel counts by its intensity."""
    bright = np.clip(image[..., 0].astype(np.float64) - 114.0, 0.0, None) / (250.0 - 114.0)
    found = []
    for axis in (0, 1):
        profile = bright.max(axis=axis)
        inside = np.flatnonzero(profile > 0.02)
        first, last = inside[0], inside[-1]
        found.append((first + 1 - profile[first], last + profile[last]))
    (left, right), (top, bottom) = found
    return np.array([left, top, right, bottom])


def without(**changes):
    """No augmentation but the one under test."""
    return Augmentation(
        **(dict.fromkeys(("mosaic", "translate", "scale", "flip_lr"), 0.0) | {"hsv": (0.0, 0.0, 0.0)} | changes)
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        without(),
        without(flip_lr=1.0),
        without(flip_ud=1.0),
        without(flip_lr=1.0, flip_ud=1.0),
        without(translate=0.1),
        without(scale=0.5),
        without(translate=0.15, scale=0.4, flip_lr=0.5, flip_ud=0.5),
    ],
)
@pytest.mark.parametrize("size", [(96, 128), (128, 96), (80, 80)])
def test_an_upright_rectangle_is_found_again_at_its_box(augmentation, size):
    image, boxes = drawn_rectangle()
    pictures = pictures_of(example(image, boxes), size=size)
    for seed in range(5):
        sample = augmented(pictures, 0, augmentation, np.random.default_rng(seed))
        assert sample.image.shape == (*size, 3)
        # Bilinear edges spread over two pixels, and one grey level of 136 is lost at each: half a pixel.
        assert np.abs(extent_of(sample.image) - sample.boxes[0]).max() < 0.75


@pytest.mark.parametrize(
    "augmentation",
    [
        without(degrees=30.0),
        without(shear=20.0),
        without(perspective=0.2),
        without(degrees=180.0, scale=0.3, translate=0.1, shear=10.0, perspective=0.1, flip_lr=0.5, flip_ud=0.5),
    ],
)
def test_the_hull_of_a_turned_rectangle_is_found_again(augmentation):
    image, boxes = drawn_rectangle()
    pictures = pictures_of(example(image, boxes), size=(128, 160))
    for seed in range(10):
        sample = augmented(pictures, 0, augmentation, np.random.default_rng(seed))
        assert np.abs(extent_of(sample.image) - sample.boxes[0]).max() < 1.3  # a corner's tip is under a pixel wide


@pytest.mark.parametrize("turned", [False, True])
def test_the_centre_of_mass_of_a_smooth_blob_follows_the_warp_without_a_half_pixel_shift(turned):
    y, x = np.mgrid[:120, :160] + 0.5
    blob = 255 * np.exp(-((x - 70.3) ** 2 + (y - 55.8) ** 2) / (2 * 5.0**2))
    image = np.repeat(np.round(blob).astype(np.uint8)[..., None], 3, axis=2)
    augmentation = without(degrees=40.0 * turned, scale=0.4, translate=0.1, flip_lr=0.5)
    offsets = []
    for seed in range(8):
        matrix = random_warp(augmentation, (120, 160), (120, 160), np.random.default_rng(seed))
        canvas = np.zeros((120, 160, 3), np.uint8)
        paste(canvas, image, matrix)
        weight = canvas[..., 0].astype(np.float64)
        centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        offsets.append(centre - (matrix @ [70.3, 55.8, 1.0])[:2])
    assert np.abs(offsets).max() < 0.06  # OpenCV interpolates in steps of 1/32 px
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.03


def test_zooming_far_out_averages_instead_of_aliasing():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::4] = 255
    canvas = grey_canvas((64, 64))
    paste(canvas, stripes, np.diag([0.25, 0.25, 1.0]))
    assert np.all(np.abs(canvas.astype(int) - 64) <= 2)


def test_a_turned_paste_draws_the_pixels_whose_centres_it_covers_and_no_others():
    image = np.full((30, 50, 3), 240, np.uint8)
    matrix = translation(41.3, 22.6) @ rotation(33.0) @ translation(-10.0, -5.0)
    canvas = grey_canvas((70, 90))
    paste(canvas, image, matrix)
    y, x = np.mgrid[:70, :90] + 0.5
    back = np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), np.stack([x, y, np.ones_like(x)]))
    inside = (back[0] >= 0) & (back[0] < 50) & (back[1] >= 0) & (back[1] < 30)
    assert np.all(canvas[inside] == 240)
    assert np.all(canvas[~inside] == 114)


def test_a_flip_reverses_pixels_exactly():
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    pictures = pictures_of(example(image[..., ::-1]), size=(40, 60))  # PNG is written as BGR
    flipped = augmented(pictures, 0, without(flip_lr=1.0), np.random.default_rng(0)).image
    np.testing.assert_array_equal(flipped, image[:, ::-1])


def test_without_augmentation_the_image_is_that_of_the_evaluation():
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 1, 1], [3, 4, 60, 80]])
    pictures = pictures_of(example(image, boxes), size=(64, 64))
    trained = augmented(pictures, 0, Augmentation.none(), np.random.default_rng(0))
    evaluated = letterboxed(pictures, 0)
    np.testing.assert_array_equal(trained.image, evaluated.image)
    np.testing.assert_allclose(trained.boxes, evaluated.boxes)
    assert len(evaluated.boxes) == 2  # however small


def test_the_rule_for_boxes_at_the_border():
    boxes = np.array(
        [
            [10.0, 10.0, 20.0, 20.0],  # stays
            [-95.0, 10.0, 5.0, 30.0],  # 5 % visible
            [-80.0, 10.0, 20.0, 30.0],  # 20 % visible
            [10.0, 10.0, 11.9, 30.0],  # 1.9 px wide
            [-30.0, 10.0, -5.0, 30.0],  # outside
            [0.0, 50.0, 99.0, 50.4],  # thinner than a pixel's half
        ]
    )
    clipped = clip_boxes(boxes, (100, 100))
    stays, part = keep(boxes, clipped, Augmentation().keep_rule)
    assert stays.tolist() == [True, False, True, False, False, False]
    assert part.tolist() == [False, True, False, True, False, False]
    np.testing.assert_allclose(clipped[1], [0, 10, 5, 30])


def test_an_elongated_box_is_ignored():
    box = np.array([[0.0, 10.0, 299.0, 12.5]])
    stays, part = keep(box, box, Augmentation().keep_rule)
    assert (stays.tolist(), part.tolist()) == ([False], [True])


def test_the_visible_part_of_a_removed_box_becomes_an_ignore_region():
    image, boxes = drawn_rectangle(size=(100, 100), box=(2, 40, 42, 60))
    pictures = pictures_of(example(image, boxes), size=(100, 100))
    augmentation = without(translate=0.4, min_visible=0.6)
    outcomes = set()
    for seed in range(40):
        sample = augmented(pictures, 0, augmentation, np.random.default_rng(seed))
        matrix = random_warp(augmentation, (100, 100), (100, 100), _after_choice(seed))
        expected = clip_boxes(boxes + np.tile(matrix[:2, 2], 2), (100, 100))
        removed = len(sample.boxes) == 0
        outcomes.add(removed)
        found = sample.ignore if removed else sample.boxes
        if (expected[0, 2:] - expected[0, :2]).min() > 0.5:
            np.testing.assert_allclose(found, expected, atol=1e-9)
            assert len(sample.boxes) + len(sample.ignore) == 1
    assert outcomes == {True, False}


def _after_choice(seed):
    rng = np.random.default_rng(seed)
    rng.random()  # mosaic or not
    return rng


@pytest.mark.parametrize("seed", range(6))
def test_the_visible_part_of_a_turned_box_has_the_hull_of_its_filled_polygon(seed):
    rng = np.random.default_rng(seed)
    start = rng.uniform(-60, 90, (40, 2))
    boxes = np.concatenate([start, start + rng.uniform(5, 120, (40, 2))], axis=1)
    matrix = translation(50, 30) @ rotation(rng.uniform(-180, 180)) @ translation(-50, -30)
    for box, hull in zip(boxes, warped_hulls(boxes, matrix, (60, 100))[1], strict=True):
        # Sample the box densely, map the samples, and look at those inside the image.
        x, y = np.meshgrid(np.linspace(box[0], box[2], 400), np.linspace(box[1], box[3], 400))
        points = (matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))[:2].T
        points = points[((points >= 0) & (points <= [100, 60])).all(axis=1)]
        if len(points) == 0:
            assert (hull[2:] - hull[:2]).prod() < 1.0
        else:
            expected = np.concatenate([points.min(axis=0), points.max(axis=0)])
            assert np.abs(hull - expected).max() < 1.0  # the samples are 0.3 px apart; corners are sharp
            assert np.all(expected[:2] >= hull[:2] - 1e-9)
            assert np.all(expected[2:] <= hull[2:] + 1e-9)


def test_ignore_regions_are_transformed_like_boxes():
    image, boxes = drawn_rectangle()
    pictures = pictures_of(example(image, boxes, ignore=boxes), size=(96, 128))
    augmentation = without(degrees=20.0, scale=0.3, translate=0.1, flip_lr=0.5)
    for seed in range(5):
        sample = augmented(pictures, 0, augmentation, np.random.default_rng(seed))
        np.testing.assert_allclose(sample.ignore, sample.boxes)


def test_labels_stay_with_their_boxes():
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[x, 20, x + 8, 30 + x / 4] for x in range(5, 90, 10)])
    pictures = pictures_of(example(image, boxes, classes=np.arange(len(boxes))), size=(100, 100))
    sample = augmented(pictures, 0, without(translate=0.4, flip_lr=1.0), np.random.default_rng(3))
    assert 0 < len(sample.boxes) < len(boxes)
    whole = (
        (sample.boxes[:, 0] > 0) & (sample.boxes[:, 2] < 100) & (sample.boxes[:, 3] < 100) & (sample.boxes[:, 1] > 0)
    )
    heights = sample.boxes[:, 3] - sample.boxes[:, 1]
    np.testing.assert_allclose(heights[whole], (10 + boxes[:, 0] / 4)[sample.classes[whole]], atol=1e-6)


def test_mixup_blends_pixels_and_joins_annotations():
    pictures = pictures_of(
        example(np.full((20, 20, 3), 200, np.uint8), [[1, 1, 9, 9]], [1], [[0, 0, 3, 3]]),
        example(np.full((20, 20, 3), 100, np.uint8), [[2, 2, 8, 8]], [2]),
        size=(20, 20),
    )
    mixed = mix(letterboxed(pictures, 0), letterboxed(pictures, 1), 0.25)
    assert np.all(mixed.image == 125)
    assert mixed.classes.tolist() == [1, 2]
    assert mixed.boxes.tolist() == [[1, 1, 9, 9], [2, 2, 8, 8]]
    assert mixed.ignore.tolist() == [[0, 0, 3, 3]]


def test_mixup_happens_only_with_a_mosaic():
    image, boxes = drawn_rectangle()
    pictures = pictures_of(example(image, boxes), size=(96, 128))
    sample = augmented(pictures, 0, without(mixup=1.0), np.random.default_rng(0))
    assert len(sample.boxes) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_inverted_images_have_the_requested_frequency_and_nothing_else_changes(share):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    pictures = pictures_of(example(image), size=(32, 32))
    samples = [augmented(pictures, 0, without(invert=share), np.random.default_rng(seed)) for seed in range(200)]
    plain = letterboxed(pictures, 0).image
    negative = [np.array_equal(sample.image, 255 - plain) for sample in samples]
    assert all(same or np.array_equal(sample.image, plain) for same, sample in zip(negative, samples, strict=True))
    assert np.mean(negative) == pytest.approx(share, abs=0.15 if 0 < share < 1 else 0)  # four standard errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mosaic": 1.5}, r"Augmentation.mosaic: expected a number in \[0, 1.0\], got 1.5"),
        ({"scale": 1.0}, "Augmentation.scale"),
        ({"perspective": 0.5}, "Augmentation.perspective"),
        ({"hsv": (0.1, 0.1, -2.0)}, "expected three gains"),
        ({"degrees": float("nan")}, "Augmentation.degrees"),
    ],
)
def test_settings_outside_their_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)


def test_a_picture_of_another_size_than_annotated_is_an_error():
    wrong = example(np.zeros((20, 30, 3), np.uint8))._replace(width=31)
    with pytest.raises(ValueError, match=r"drawn.png: expected 31 x 20 px .* got 30 x 20"):
        letterboxed(pictures_of(wrong, size=(32, 32)), 0)
