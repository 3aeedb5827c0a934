"""Colour augmentation: changed and unchanged values, and the arithmetic."""

import numpy as np

from data_pipeline.augment.colour import hsv_tables, jitter_hsv


def test_hue_wraps_and_value_saturates():
    tables = hsv_tables(1.5, 2.0, 0.5)[0]
    assert tables[100, 0] == 150
    assert tables[170, 0] == 255 - 180
    assert tables[200, 1] == 255
    assert tables[200, 2] == 100


def test_colour_without_gains_changes_nothing_and_grey_stays_grey():
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(jitter_hsv(image, (0.0, 0.0, 0.0), np.random.default_rng(0)), image)
    grey = np.repeat(image[..., :1], 3, axis=2)
    jittered = jitter_hsv(grey, (0.5, 0.5, 0.5), np.random.default_rng(0))
    assert np.all(jittered == jittered[..., :1])
    assert (jittered != grey).any()


def test_colour_agrees_with_hsv_arithmetic():
    red = np.array([[[200, 50, 50]]], np.uint8)  # h 0, s .75, v 200
    rng = np.random.default_rng(5)
    factors = 1 + np.random.default_rng(5).uniform(-1, 1, 3) * (0.0, 0.2, 0.2)
    jittered = jitter_hsv(red, (0.0, 0.2, 0.2), rng)[0, 0]
    value, saturation = 200 * factors[2], 0.75 * factors[1]
    np.testing.assert_allclose(jittered, [value, value * (1 - saturation), value * (1 - saturation)], atol=2.0)
