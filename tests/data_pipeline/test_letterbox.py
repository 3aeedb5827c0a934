"""Letterbox geometry: boxes match the drawn pixels, and the transform can be inverted."""

import cv2
import numpy as np
import pytest

from data_pipeline.letterbox import letterbox, letterbox_of

SIZES = [(765, 1360), (512, 640), (1360, 765), (101, 203), (256, 320), (37, 1000)]
OUTPUTS = [(640, 640), (256, 320), (320, 256), (97, 161)]


def blob_centre(image: np.ndarray) -> np.ndarray:
    """Intensity-weighted centre (x, y) with continuous pixel edges, of a white blob on grey 114 or black."""
    weight = np.clip(image[..., 0].astype(np.float64) - 120.0, 0.0, None)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("size", OUTPUTS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_go_to_the_batch_and_back_within_a_thousandth_of_a_pixel(height, width, size):
    corners = np.random.default_rng(0).uniform(0, 1, (50, 4)) * [width, height, width, height]
    scale, pad_x, pad_y = np.asarray(letterbox_of(height, width, size), np.float32)  # as the batch stores it
    exact = letterbox_of(height, width, size)
    forward = (corners * exact.scale + [exact.pad_x, exact.pad_y] * 2).astype(np.float32)
    back = (forward.astype(float) - [pad_x, pad_y] * 2) / float(scale)
    assert np.abs(back - corners).max() < 1e-3


@pytest.mark.parametrize("size", OUTPUTS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_image_fits_and_is_centred(height, width, size):
    scale, pad_x, pad_y = letterbox_of(height, width, size)
    right, bottom = size[1] - pad_x - width * scale, size[0] - pad_y - height * scale
    assert min(abs(right), abs(bottom)) < 1e-3 + 0.5  # one side fills the output
    assert pad_x >= 0
    assert pad_y >= 0
    assert abs(right - pad_x) < 1.6  # a whole pad, and a shrunk side rounded to whole pixels
    assert abs(bottom - pad_y) < 1.6


@pytest.mark.parametrize("size", OUTPUTS)
@pytest.mark.parametrize(("height", "width"), [(765, 1360), (511, 640), (1360, 765), (61, 77)])
def test_a_drawn_rectangle_lands_at_its_letterboxed_centre(height, width, size):
    image = np.zeros((height, width, 3), np.uint8)
    box = np.array([width * 5 // 8, height // 2, width * 7 // 8, height * 3 // 4])
    image[box[1] : box[3], box[0] : box[2]] = 255
    drawn, (scale, pad_x, pad_y) = letterbox(image, size)
    expected = np.array([box[0] + box[2], box[1] + box[3]]) / 2 * scale + [pad_x, pad_y]
    # The threshold at 120 cuts the two blurred edges alike, up to the phase of the sampling.
    assert np.abs(blob_centre(drawn) - expected).max() < 0.15


def test_padding_is_grey_and_the_image_is_not_overwritten():
    drawn, _ = letterbox(np.full((50, 100, 3), 200, np.uint8), (100, 100))
    assert drawn.shape == (100, 100, 3)
    assert np.all(drawn[:25] == 114)
    assert np.all(drawn[75:] == 114)
    assert np.all(drawn[25:75] == 200)


def test_shrinking_averages_areas_where_sampling_would_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::4] = 255  # one bright column in four
    drawn, _ = letterbox(stripes, (100, 100))
    assert np.all(np.abs(drawn.astype(int) - 64) <= 1)
    assert cv2.resize(stripes, (100, 100), interpolation=cv2.INTER_LINEAR).max() == 0  # what it avoids


def test_an_image_of_the_output_size_is_copied():
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    drawn, box = letterbox(image, (48, 64))
    np.testing.assert_array_equal(drawn, image)
    assert tuple(box) == (1.0, 0.0, 0.0)


def test_an_extremely_thin_image_keeps_a_pixel():
    drawn, _ = letterbox(np.full((1, 2000, 3), 250, np.uint8), (64, 64))
    assert (drawn != 114).any()
