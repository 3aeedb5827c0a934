"""Mosaic: each of four images with known rectangles is found in its place."""

import cv2
import numpy as np
import pytest

from data_pipeline.augment.augmentation import Augmentation, augmented, draw
from data_pipeline.augment.geometry import scaling, translation
from data_pipeline.augment.mosaic import mosaic_around, mosaic_placement
from data_pipeline.dataset import Example, dataset_from_examples
from data_pipeline.pictures import Pictures

SIZE = (96, 128)
RULE = Augmentation().keep_rule
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
SHAPES = [(96, 128), (150, 100), (60, 200), (48, 64)]  # height, width


def four_pictures(cache_bytes=0):
    examples = []
    for colour, (height, width) in zip(COLOURS, SHAPES, strict=True):
        image = np.zeros((height, width, 3), np.uint8)
        box = np.array([width // 4, height // 4, width // 4 * 3, height // 4 * 3])
        image[box[1] : box[3], box[0] : box[2]] = colour
        data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        boxes = box[None].astype(np.float32)
        labels = np.array([len(examples)], np.int32)
        examples.append(Example(data, boxes, labels, np.zeros((0, 4), np.float32), 0, "drawn.png", height, width))
    return Pictures(dataset_from_examples(examples, "abcd"), SIZE, cache_bytes)


def found(image, colour):
    """Edges xyxy of the pixels nearer to the colour than to black or grey."""
    same = (np.abs(image.astype(int) - colour).max(axis=2)) < 125
    y, x = np.nonzero(same)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@pytest.mark.parametrize("point", [(128.0, 96.0), (100.3, 80.7), (150.0, 70.0)])
def test_each_of_four_rectangles_is_found_at_its_box(point):
    half = scaling(0.5, 0.5)
    placed = [(i, half @ at) for i, at in enumerate(mosaic_around(point, SHAPES, SIZE))]
    sample = draw(four_pictures(), placed, RULE)
    assert sample.classes.tolist() == [0, 1, 2, 3]
    for colour, box in zip(COLOURS, sample.boxes, strict=True):
        assert np.abs(found(sample.image, colour) - box).max() <= 1.0


def test_images_meet_in_one_point_without_a_gap():
    placed = list(enumerate(mosaic_around((61.3, 47.8), SHAPES, SIZE)))
    image = draw(four_pictures(), placed, RULE).image
    assert np.all(image[40:56, 54:70] != 114)  # black background of the four, no grey between


@pytest.mark.parametrize("seed", range(5))
def test_the_meeting_point_is_in_the_middle_half_of_the_canvas(seed):
    corners = mosaic_placement(SHAPES, SIZE, np.random.default_rng(seed))
    x, y, _ = corners[3] @ [0, 0, 1]
    assert 64 <= x <= 192
    assert 48 <= y <= 144
    for matrix, (height, width), (right, bottom) in zip(corners, SHAPES, [(1, 1), (0, 1), (1, 0), (0, 0)], strict=True):
        np.testing.assert_allclose((matrix @ [width * right, height * bottom, 1])[:2], [x, y], atol=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 10.0])
def test_rectangles_of_random_mosaics_are_found_again(degrees):
    pictures = four_pictures()
    augmentation = Augmentation(hsv=(0.0, 0.0, 0.0), degrees=degrees, shear=degrees / 2)
    checked = 0
    for seed in range(12):
        sample = augmented(pictures, seed % 4, augmentation, np.random.default_rng(seed))
        for box, label in zip(sample.boxes, sample.classes, strict=True):
            if np.sum(sample.classes == label) == 1 and not len(sample.ignore):
                assert np.abs(found(sample.image, COLOURS[label]) - box).max() <= 1.0 + (degrees > 0)
                checked += 1
    assert checked > 5


def test_the_result_does_not_depend_on_the_cache():
    cached, uncached = four_pictures(cache_bytes=1 << 20), four_pictures()
    for seed in range(4):
        for _ in range(2):
            a = augmented(cached, 0, Augmentation(mixup=0.5), np.random.default_rng(seed))
            b = augmented(uncached, 0, Augmentation(mixup=0.5), np.random.default_rng(seed))
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.boxes, b.boxes)


def test_only_visible_images_are_decoded():
    class Counting(Pictures):
        read = 0

        def picture(self, index):
            self.read += 1
            return super().picture(index)

    pictures = Counting(four_pictures().dataset, SIZE, 0)
    draw(pictures, [(0, np.eye(3)), (1, translation(200.0, 0.0))], RULE)
    assert pictures.read == 1


def test_the_cache_keeps_to_its_budget():
    pictures = four_pictures(cache_bytes=96 * 128 * 3 + 10)
    first, second = pictures.picture(0), pictures.picture(1)
    assert pictures.picture(0) is first
    assert pictures.picture(1) is not second
    with pytest.raises(ValueError, match="read-only"):
        first.image[0, 0, 0] = 1
