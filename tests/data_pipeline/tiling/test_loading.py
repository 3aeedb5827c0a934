"""Batches of tiles: the loader treats tiles as it treats images."""

import logging
from itertools import islice

import numpy as np
import pytest

from data_pipeline import Augmentation, LoaderOptions, Tiles, TrainLoader, dataset_from_examples, eval_batches
from tests.data_pipeline.tiling.scenes import Scenes, scene

TILE = (64, 64)


def options(**changes):
    return LoaderOptions(**({"image_size": TILE, "batch_size": 4, "max_boxes": 24, "threads": 0, "seed": 3} | changes))


def tiles(split="train", **changes):
    return Tiles(Scenes(), TILE, **({"overlap": 0.25} | changes)).open(split)


def assert_equal(a, b):
    for name, left, right in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_a_tile_of_the_size_of_the_input_is_not_resized():
    data, seen = tiles("val"), 0
    for batch in eval_batches(data, options()):
        for row in np.flatnonzero(batch.valid):
            index = batch.image_id[row]
            np.testing.assert_array_equal(batch.images[row], data.pixels(index))
            np.testing.assert_array_equal(batch.boxes[row][batch.mask[row]], data[index].boxes)
            np.testing.assert_array_equal(batch.ignore[row][batch.ignore_mask[row]], data[index].ignore)
            assert batch.letterbox[row].tolist() == [1, 0, 0]
            seen += 1
    assert seen == len(data)


@pytest.mark.parametrize("augmentation", [Augmentation(mosaic=0.0), Augmentation(degrees=10.0, mixup=0.3)])
def test_batches_from_any_step_are_the_same_at_every_opening(augmentation):
    first = TrainLoader(tiles(), options(augmentation=augmentation, threads=2))
    second = TrainLoader(tiles(), options(augmentation=augmentation))
    for step, batch in enumerate(islice(first.batches(5), 4), 5):
        assert_equal(batch, second.batch_at(step))
        assert batch.images.shape == (4, *TILE, 3)
        assert batch.boxes.shape == (4, 24, 4)


@pytest.mark.slow
def test_worker_processes_give_the_same_batches():
    loader = TrainLoader(tiles(), options(workers=2, threads=1))
    batches = loader.batches(2)
    for step in (2, 3, 4):
        assert_equal(next(batches), loader.batch_at(step))
    batches.close()


def test_boxes_of_a_mosaic_of_tiles_lie_on_their_objects():
    unchanged = Augmentation(mosaic=1.0, hsv=(0.0, 0.0, 0.0), scale=0.0, translate=0.0, min_visible=0.0, min_side=0.0)
    batch, found = TrainLoader(tiles(), options(augmentation=unchanged)).batch_at(0), 0
    for image, boxes in zip(batch.images, (batch.boxes[i][batch.mask[i]] for i in range(4)), strict=True):
        for x1, y1, x2, y2 in boxes:
            rows = slice(int(np.ceil(y1)) + 1, max(int(y2) - 1, 0))  # not −1, the last row, for a box under 1 px
            inner = image[rows, int(np.ceil(x1)) + 1 : max(int(x2) - 1, 0)]
            assert (inner == 200).all()
            found += inner.size > 0
    assert found > 4


def test_an_image_that_cannot_be_read_is_named_once_for_all_its_tiles(caplog):
    examples = [scene(i, 100, 150, [(x, y, x + 9, y + 9) for x in (5, 75, 135) for y in (5, 80)])[1] for i in range(4)]
    examples[2] = examples[2]._replace(image=b"no image")
    data = Tiles(Scenes(), TILE).cut(dataset_from_examples(examples, ("a", "b")), training=True)
    with caplog.at_level(logging.WARNING):
        batches = list(eval_batches(data, options()))
    assert sum("2.png: expected a JPEG" in message for message in caplog.messages) == 1
    lost = {int(i) for batch in batches for i in batch.image_id[~batch.valid & (batch.image_id >= 0)]}
    assert lost == {index for index, name in enumerate(data.file_names) if name.startswith("2.png")}
