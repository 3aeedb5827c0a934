"""Tiles of training and tiles of inference are the same pictures."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from data_pipeline import Tiles, dataset_from_examples
from tests.data_pipeline.tiling.scenes import Scenes, scene
from ugs_jax.detectors import Detections
from ugs_jax.inference import Tiling, detect_image


def inputs_of_inference(image, tiling):
    """Images that the network gets: tiles of one batch after another, without the grey ones at the end."""
    given = []

    def detect(images):
        given.extend(np.array(images))
        empty = np.zeros((len(images), 1))
        return Detections(np.zeros((len(images), 1, 4)), empty, empty.astype(np.int32), empty.astype(bool))

    detect_image(detect, image, tiling.tile, tiling=tiling)
    return given


@settings(max_examples=25)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([(32, 32), (64, 32), (64, 96)]),
    st.sampled_from([0.0, 0.2, 0.25, 0.33, 0.5]),
)
def test_the_network_sees_the_same_tiles_in_training_and_inference(height, width, tile, overlap):
    pixels, example = scene(0, height, width, [])
    whole = dataset_from_examples([example], ("a", "b"))
    tiles = Tiles(Scenes(), tile, overlap=overlap).cut(whole, training=False)
    seen = inputs_of_inference(pixels, Tiling(tile, overlap, batch=1, full_image=False))
    assert len(seen) == len(tiles)
    for index, image in enumerate(seen):
        np.testing.assert_array_equal(tiles.pixels(index), image)


def test_with_whole_images_the_network_sees_what_it_sees_in_inference():
    pixels, example = scene(0, 100, 150, [(2, 2, 9, 9)])
    whole = dataset_from_examples([example], ("a", "b"))
    data = Tiles(Scenes(), 64, whole=True, empty_share=1.0).cut(whole, training=True)
    seen = inputs_of_inference(pixels, Tiling((64, 64), 0.2, batch=1))
    assert len(seen) == len(data)
    np.testing.assert_array_equal(data.pixels(len(data) - 1), pixels)
