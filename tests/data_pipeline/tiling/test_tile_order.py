"""The order of tiles: every tile once in an epoch, few images at a time, and the same from any sample on."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import Augmentation, LoaderOptions, Tiles, TrainLoader
from data_pipeline.tiling.tile_order import TileOrder
from tests.data_pipeline.tiling.scenes import Scenes


@st.composite
def orders(draw):
    sizes = draw(st.lists(st.integers(1, 100), min_size=1, max_size=40))
    image = np.repeat(
        np.arange(len(sizes)), draw(st.lists(st.integers(0, 5), min_size=len(sizes), max_size=len(sizes)))
    )
    image = image if len(image) else np.zeros(1, int)
    return TileOrder(image, np.array(sizes), draw(st.integers(0, 800)), draw(st.integers(0, 5)))


@given(orders(), st.integers(0, 3))
def test_every_epoch_has_every_tile_once(order, epoch):
    tiles = [order[epoch * order.length + place] for place in range(order.length)]
    assert sorted(tiles) == list(range(order.length))


@given(orders(), st.integers(0, 3))
def test_a_group_has_all_tiles_of_its_images_and_fits_the_budget_or_has_few_images(order, epoch):
    for start, stop in {tuple(row) for row in order.draw_epoch(epoch)[:, 1:].tolist()}:
        tiles = order.draw_epoch(epoch)[start:stop, 0]
        images = np.unique(order.image[tiles])
        assert sorted(tiles) == np.flatnonzero(np.isin(order.image, images)).tolist()
        assert len(images) <= 7 or order.image_bytes[images].sum() <= order.budget


@given(orders(), st.integers(0, 3))
def test_a_mosaic_takes_its_other_tiles_from_the_group(order, epoch):
    for place in range(order.length):
        sample = epoch * order.length + place
        start, stop = order.draw_epoch(epoch)[place, 1:]
        assert start <= place < stop
        near = {order[epoch * order.length + other] for other in range(start, stop)}
        assert set(order.others(sample)(np.random.default_rng(0), 20)) <= near


@given(orders(), st.integers(0, 50))
def test_a_sample_depends_on_seed_and_number_only(order, sample):
    again = pickle.loads(pickle.dumps(order))
    for other in (3 * order.length, 0, order.length):  # epochs that take the place of those in memory
        again[other]
    assert again[sample] == order[sample]


def test_large_groups_are_shuffled_anew_in_every_epoch():
    order = TileOrder(np.repeat(np.arange(20), 10), np.full(20, 10), 80, seed=0)
    first, second = (order.draw_epoch(epoch)[:, 0] for epoch in (0, 1))
    assert (first != second).mean() > 0.9
    assert len(set(order.image[first[:80]])) == 8  # as many as fit
    assert len(set(order.image[first[:16]])) > 3  # a batch is not from one image


def test_training_decodes_every_image_once_in_an_epoch(monkeypatch):
    scenes = Scenes()
    data = Tiles(scenes, (64, 64), overlap=0.25, empty_share=1.0).open("train")
    images, decoded = data.images, []
    monkeypatch.setattr(type(images.dataset), "pixels", counted(type(images.dataset).pixels, images.dataset, decoded))
    options = LoaderOptions((64, 64), 1, 24, threads=0, cache_bytes=0, augmentation=Augmentation(mosaic=1.0))
    loader = TrainLoader(data, options)
    seen = [int(loader.batch_at(step).image_id[0]) for step in range(len(data))]
    assert sorted(seen) == list(range(len(data)))
    assert sorted(decoded) == sorted(set(images.image.tolist()))


def counted(pixels, whole, calls):
    def call(self, index):
        if self is whole:
            calls.append(index)
        return pixels(self, index)

    return call
