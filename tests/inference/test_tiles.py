"""Positions of tiles, and reading of windows only."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from ugs_jax.inference import tile_starts, tile_windows
from ugs_jax.inference.tiles import Window, check_image, overview, read_window


@given(st.integers(1, 3000), st.integers(1, 700), st.floats(0, 0.9))
def test_tiles_cover_the_axis_and_every_interval_as_long_as_the_overlap_lies_in_one(length, tile, overlap):
    shared = int(np.ceil(round(tile * overlap, 6)))
    if shared >= tile:
        with pytest.raises(ValueError, match="advance by 1 px"):
            tile_starts(length, tile, overlap)
        return
    starts = np.array(tile_starts(length, tile, overlap))
    assert starts[0] == 0
    assert np.all(np.diff(starts) >= 1)
    assert np.all(starts[:-1] + tile - starts[1:] >= shared)
    assert starts[-1] + tile == max(length, tile)
    assert len(starts) == 1 or starts[-2] + tile < length  # none too many
    long = min(max(shared, 1), length)
    first = np.arange(length - long + 1)
    inside = (starts <= first[:, None]) & (first[:, None] + long <= starts + tile)
    assert inside.any(1).all()


def test_windows_are_row_by_row():
    windows = tile_windows(100, 150, (64, 96), 0.25)
    assert windows == [Window(0, 0, 64, 96), Window(0, 54, 64, 96), Window(36, 0, 64, 96), Window(36, 54, 64, 96)]


def test_a_window_over_the_border_is_filled_with_grey():
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    window = read_window(image, Window(3, 4, 4, 4))
    np.testing.assert_array_equal(window[:2, :2], image[3:, 4:])
    assert np.all(window[2:] == 114)
    assert np.all(window[:, 2:] == 114)


class Counted:
    """An image on disk that notes how many pixels the largest window had."""

    def __init__(self, image):
        self.image, self.shape, self.dtype, self.largest = image, image.shape, image.dtype, 0

    def __getitem__(self, index):
        part = self.image[index]
        self.largest = max(self.largest, part.shape[0] * part.shape[1])
        return part


def test_a_large_image_is_reduced_in_bands_to_the_means_of_its_pixels():
    rng = np.random.default_rng(0)
    image = Counted(rng.integers(0, 256, (403, 610, 3), np.uint8))
    small, factor = overview(image, (96, 96), in_memory=20_000)
    assert factor == 6
    assert small.shape == (68, 102, 3)
    assert image.largest <= 20_000
    blocks = image.image[:402, :606].reshape(67, 6, 101, 6, 3).mean((1, 3))
    np.testing.assert_allclose(small[:67, :101], blocks, atol=0.51)  # rounded to whole numbers


def test_an_image_that_fits_is_unchanged():
    image = np.zeros((40, 60, 3), np.uint8)
    small, factor = overview(image, (32, 32))
    assert factor == 1
    assert small.shape == image.shape


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_images_other_than_8_bit_rgb_are_refused(image):
    with pytest.raises(ValueError, match=r"image: expected uint8 of shape \(height, width, 3\)"):
        check_image(image)


@pytest.mark.parametrize(("length", "tile", "overlap"), [(0, 4, 0.2), (4, 0, 0.2), (4, 4, 1.0), (4, 4, -0.1)])
def test_numbers_out_of_range_are_refused(length, tile, overlap):
    with pytest.raises(ValueError, match="expected"):
        tile_starts(length, tile, overlap)
