"""Loader: the batches do not depend on the start, the number of processes, or the way of reading."""

import logging
import multiprocessing
import threading
import time
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from data_pipeline.augment import augmentation as augment
from data_pipeline.augment.augmentation import Augmentation, augmented, most_boxes
from data_pipeline.dataset import Example, dataset_from_examples
from data_pipeline.errors import DataError
from data_pipeline.letterbox import letterbox_of
from data_pipeline.loader import LoaderOptions, TrainLoader, eval_batches
from data_pipeline.pictures import Pictures
from data_pipeline.rows import cut_boxes

SIZE = (48, 64)


def dataset(count=10, boxes=3, broken=None):
    rng = np.random.default_rng(0)
    examples = []
    for i in range(count):
        height, width = int(rng.integers(30, 90)), int(rng.integers(30, 90))
        image = np.full((height, width, 3), 20 * (i % 12) + 3, np.uint8)
        data = cv2.imencode(".png", image)[1].tobytes() if i != broken else b"no image"
        corner = rng.uniform(0, 15, (boxes, 2))
        xyxy = np.concatenate([corner, corner + rng.uniform(3, 14, (boxes, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, 2, boxes).astype(np.int32)
        examples.append(Example(data, xyxy, labels, xyxy[:1] + 1, i, f"{i}.png", height, width))
    return dataset_from_examples(examples, ["a", "b"])


def options(**changes):
    return LoaderOptions(**({"image_size": SIZE, "batch_size": 4, "max_boxes": 16, "threads": 0, "seed": 3} | changes))


def assert_equal(a, b):
    for name, left, right in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)
        assert left.dtype == right.dtype


def test_a_batch_has_static_shapes_types_and_zeros_outside_its_masks():
    batch = TrainLoader(dataset(), options()).batch_at(0)
    expected = {
        "images": ((4, 48, 64, 3), np.uint8), "boxes": ((4, 16, 4), np.float32), "classes": ((4, 16), np.int32),
        "mask": ((4, 16), np.bool_), "ignore": ((4, 32, 4), np.float32), "ignore_mask": ((4, 32), np.bool_),
        "image_id": ((4,), np.int32), "original_size": ((4, 2), np.int32), "letterbox": ((4, 3), np.float32),
        "valid": ((4,), np.bool_),
    }  # fmt: skip
    assert {name: (array.shape, array.dtype) for name, array in batch._asdict().items()} == expected
    assert batch.mask.any()
    assert not batch.boxes[~batch.mask].any()
    assert not batch.classes[~batch.mask].any()
    assert not batch.ignore[~batch.ignore_mask].any()
    assert batch.valid.all()
    assert batch.boxes.min() >= 0
    assert (batch.boxes.max(axis=(0, 1)) <= [64, 48, 64, 48]).all()


@pytest.mark.parametrize("threads", [0, 2])
def test_iteration_from_any_step_equals_random_access(threads):
    loader = TrainLoader(dataset(), options(threads=threads))
    for start in (0, 4):
        for step, batch in zip(range(start, start + 3), loader.batches(start), strict=False):
            assert_equal(batch, loader.batch_at(step))


AUGMENTATIONS = [
    Augmentation.none(),
    Augmentation(),
    Augmentation(mosaic=1.0, mixup=0.5),
    Augmentation(mosaic=0.6, mixup=1.0, degrees=20.0),
]


def varied(count=12):
    """A data set of which image i has i boxes."""
    examples = [dataset(1, boxes=i)[0] for i in range(1, count)]
    return dataset_from_examples(
        [dataset(1)[0]._replace(boxes=np.zeros((0, 4), np.float32), classes=np.zeros(0, np.int32)), *examples],
        ["a", "b"],
    )


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_largest_number_of_boxes_is_that_of_the_drawn_images(augmentation, monkeypatch):
    used = []
    original = augment.draw
    monkeypatch.setattr(
        augment,
        "draw",
        lambda pictures, placed, rule: used.extend(i for i, _ in placed) or original(pictures, placed, rule),
    )
    data, counts = varied(), np.arange(12)
    for seed in range(30):
        used.clear()
        augmented(Pictures(data, SIZE, 0), seed % 12, augmentation, np.random.default_rng(seed))
        assert most_boxes(counts, data.table.sizes, seed % 12, augmentation, np.random.default_rng(seed)) == sum(used)


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_buckets_change_only_the_padding_of_boxes(augmentation):
    plain = TrainLoader(varied(), options(augmentation=augmentation, max_boxes=90, threads=2))
    cut = TrainLoader(varied(), replace(plain.options, box_buckets=(50, 30, 10, 26, 22)))
    shares = [TrainLoader(varied(), cut.options, p, 2) for p in range(2)]
    rooms = set()
    for step, (all_of_it, batch) in enumerate(zip(islice(plain.batches(), 12), cut.batches(), strict=False)):
        room = batch.mask.shape[1]
        rooms.add(room)
        assert_equal(batch, cut.batch_at(step))
        assert_equal(cut_boxes(all_of_it, room), batch)
        assert not all_of_it.mask[:, room:].any()
        assert [share.batch_at(step).mask.shape for share in shares] == [(2, room)] * 2
    assert len(rooms) > 1
    assert rooms <= {10, 22, 26, 30, 50, 90}
    for loader in (cut, *shares):
        widths = [loader.batch_at(step).mask.shape[1] for step in range(6)]
        for step, batch in enumerate(loader.of_one_shape(6)):
            assert batch.mask.shape[1] == max(widths)
            assert_equal(cut_boxes(batch, widths[step]), loader.batch_at(step))


def test_closing_the_batches_ends_their_threads():
    before = set(threading.enumerate())
    batches = TrainLoader(dataset(), options(threads=2)).batches()
    next(batches)
    assert set(threading.enumerate()) - before
    batches.close()
    deadline = time.monotonic() + 10.0
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not set(threading.enumerate()) - before


def test_worker_processes_give_the_same_batches():
    loader = TrainLoader(dataset(), options(workers=2, threads=1, max_boxes=2))
    batches = loader.batches(2)
    for step in (2, 3, 4):
        batch = next(batches)
        assert_equal(batch, loader.batch_at(step))
        assert all(type(array) is np.ndarray for array in batch)  # not shared memory, which a worker could take away
    assert multiprocessing.active_children()
    batches.close()
    assert not multiprocessing.active_children()
    assert loader.dropped_boxes > 0


def test_the_same_seed_repeats_and_another_seed_differs():
    first, again, other = (TrainLoader(dataset(), options(seed=seed)).batch_at(1) for seed in (3, 3, 4))
    assert_equal(first, again)
    assert not np.array_equal(first.images, other.images)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_share_the_batches_of_one_process(count):
    whole = TrainLoader(dataset(), options())
    parts = [TrainLoader(dataset(), options(), index, count) for index in range(count)]
    for step in (0, 3):
        shards = [part.batch_at(step) for part in parts]
        for name, array in whole.batch_at(step)._asdict().items():
            joined = np.stack([getattr(shard, name) for shard in shards], axis=1).reshape(array.shape)
            np.testing.assert_array_equal(joined, array, err_msg=name)


def test_every_epoch_shows_every_image_once_in_a_new_order():
    loader = TrainLoader(dataset(count=8), options())
    assert loader.steps_per_epoch == 2
    epochs = [np.concatenate([loader.batch_at(2 * e + s).image_id for s in range(2)]).tolist() for e in range(4)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_an_image_is_augmented_anew_in_every_epoch():
    loader = TrainLoader(dataset(count=4), options())
    first, second = (loader.batch_at(step) for step in (0, 1))
    row, other = (int(np.flatnonzero(batch.image_id == 0)[0]) for batch in (first, second))
    assert not np.array_equal(first.images[row], second.images[other])


def test_a_batch_may_be_larger_than_the_data_set():
    batch = TrainLoader(dataset(count=3), options(batch_size=8)).batch_at(0)
    assert set(batch.image_id.tolist()) == {0, 1, 2}


def test_boxes_over_the_capacity_are_counted_ignored_and_reported(caplog):
    crowded = options(max_boxes=5, augmentation=Augmentation.none())
    loader = TrainLoader(dataset(count=4, boxes=9), crowded)
    with caplog.at_level(logging.WARNING):
        batches = list(islice(loader.batches(), 2))
    assert loader.dropped_boxes == 2 * 4 * (9 - 5)
    assert loader.dropped_regions == 0
    assert all(batch.mask.sum(axis=1).tolist() == [5] * 4 for batch in batches)
    assert all(batch.ignore_mask.sum(axis=1).tolist() == [1 + 4] * 4 for batch in batches)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"16 boxes of a batch do not fit (image {batches[0].image_id[0]})"
    ]


def test_the_boxes_kept_of_a_crowd_are_a_new_random_subset_each_epoch():
    loader = TrainLoader(dataset(count=4, boxes=9), options(max_boxes=5, augmentation=Augmentation.none()))
    kept = [loader.batch_at(step) for step in range(4)]
    rows = [batch.boxes[batch.image_id == 0][0] for batch in kept]
    assert any(not np.array_equal(rows[0], row) for row in rows[1:])


def test_of_too_many_ignore_regions_the_smallest_are_dropped():
    full = options(max_boxes=5, max_ignore=2, augmentation=Augmentation.none())
    data = dataset(count=4, boxes=9)
    loader = TrainLoader(data, full)
    next(loader.batches())
    assert loader.dropped_regions == 4 * (1 + 4 - 2)


def test_evaluation_is_in_order_and_pads_the_last_batch():
    batches = list(eval_batches(dataset(count=10), options(threads=2)))
    assert len(batches) == 3
    assert np.concatenate([batch.image_id for batch in batches]).tolist() == [*range(10), -1, -1]
    assert np.concatenate([batch.valid for batch in batches]).tolist() == [True] * 10 + [False] * 2
    assert np.all(batches[-1].images[2:] == 114)
    assert not batches[-1].mask[2:].any()


def test_evaluation_boxes_map_back_to_the_original():
    data = dataset(count=6)
    for batch in eval_batches(data, options(image_size=(97, 64))):
        for row in np.flatnonzero(batch.valid):
            original = data.annotations(int(batch.image_id[row]))
            scale, *pad = batch.letterbox[row].astype(float)
            back = (batch.boxes[row][batch.mask[row]] - pad * 2) / scale
            assert np.abs(back - original.boxes).max() < 1e-3
            assert batch.original_size[row].tolist() == [original.height, original.width]
            np.testing.assert_array_equal(batch.classes[row][batch.mask[row]], original.classes)


def test_evaluation_shards_have_equal_length_and_cover_the_split():
    shards = [list(eval_batches(dataset(count=9), options(), index, 2)) for index in range(2)]
    assert len(shards[0]) == len(shards[1]) == 3
    ids = np.concatenate([batch.image_id[batch.valid] for shard in shards for batch in shard])
    assert sorted(ids.tolist()) == list(range(9))


def test_evaluation_reports_boxes_that_do_not_fit(caplog):
    with caplog.at_level(logging.WARNING):
        list(eval_batches(dataset(count=2, boxes=9), options(max_boxes=5)))
    assert "8 boxes do not fit" in caplog.text


@pytest.mark.parametrize("threads", [0, 2])
def test_an_unreadable_image_names_its_file(threads):
    with pytest.raises(DataError, match=r"2\.png"):
        list(eval_batches(dataset(broken=2), options(threads=threads, strict=True)))


@pytest.mark.parametrize(
    ("changes", "shard", "message"),
    [
        ({"batch_size": 6}, (0, 4), "expected a multiple of the 4 processes. Fix: use 8"),
        ({}, (2, 2), "process_index=2"),
        ({"batch_size": 0}, (0, 1), "LoaderOptions.batch_size: expected at least 1, got 0"),
        ({"workers": -1}, (0, 1), "LoaderOptions.workers"),
        ({"box_buckets": (4, 16)}, (0, 1), r"box_buckets: expected numbers from 1 to max_boxes=16 - 1, got \(4, 16\)"),
    ],
)
def test_impossible_options_are_refused(changes, shard, message):
    with pytest.raises(ValueError, match=message):
        TrainLoader(dataset(), options(**changes), *shard)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="examples/train: expected at least one image"):
        TrainLoader(dataset(count=0), options())


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_an_image_that_cannot_be_read_is_named_once_counted_and_ignored_in_training(mosaic, caplog):
    loader = TrainLoader(dataset(broken=2), options(augmentation=replace(Augmentation.none(), mosaic=mosaic)))
    batches = list(islice(loader.batches(), 10))  # four epochs
    (message,) = (record.getMessage() for record in caplog.records)
    assert "2.png" in message
    assert loader.unreadable >= 3
    if not mosaic:
        rows = [(batch, i) for batch in batches for i in np.flatnonzero(batch.image_id == 2)]
        assert len(rows) == loader.unreadable
        for batch, i in rows:
            assert not batch.mask[i].any()
            height, width = batch.original_size[i].tolist()
            area = (batch.ignore[i][:, 2:] - batch.ignore[i][:, :2]).prod(-1)
            assert area.max() == pytest.approx(height * width * letterbox_of(height, width, SIZE).scale ** 2)


def test_an_unreadable_image_is_an_invalid_row_in_an_evaluation():
    batches = list(eval_batches(dataset(broken=2), options()))
    assert [int(i) for batch in batches for i in batch.image_id[~batch.valid]] == [2, -1, -1]
