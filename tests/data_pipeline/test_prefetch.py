"""Prefetch: it runs ahead of the consumer, keeps the order, and ends with the consumer."""

import threading

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipeline.batch import Batch
from data_pipeline.prefetch import prefetch


def batch(value, rows=2):
    return Batch(
        images=np.full((rows, 4, 4, 3), value, np.uint8), boxes=np.zeros((rows, 3, 4), np.float32),
        classes=np.zeros((rows, 3), np.int32), mask=np.zeros((rows, 3), bool),
        ignore=np.zeros((rows, 1, 4), np.float32), ignore_mask=np.zeros((rows, 1), bool),
        image_id=np.full(rows, value, np.int32), original_size=np.ones((rows, 2), np.int32),
        letterbox=np.ones((rows, 3), np.float32), valid=np.ones(rows, bool),
    )  # fmt: skip


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_batches_arrive_on_the_device_in_order():
    out = list(prefetch(batch(i) for i in range(7)))
    assert [int(each.image_id[0]) for each in out] == list(range(7))
    assert all(isinstance(array, jax.Array) for array in out[0])
    assert out[0].images.dtype == np.uint8
    assert not threads()


def test_batches_are_placed_with_the_sharding():
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    (out,) = prefetch([batch(1)], sharding)
    assert all(array.sharding.is_equivalent_to(sharding, array.ndim) for array in out)


def test_at_most_size_batches_are_read_ahead():
    read = []

    def source():
        for i in range(20):
            read.append(i)
            yield batch(i)

    stream = prefetch(source(), size=3)
    next(stream)
    next(stream)
    stream.close()
    assert len(read) <= 2 + 3


def test_an_exception_arrives_after_the_batches_before_it():
    def source():
        yield batch(0)
        yield batch(1)
        raise OSError("disk is gone")

    stream = prefetch(source(), size=4)
    assert [int(next(stream).image_id[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="disk is gone"):
        next(stream)
    assert not threads()


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_the_thread_and_the_source_end_with_the_consumer(leave):
    closed = threading.Event()

    def source():
        try:
            i = 0
            while True:
                yield batch(i % 100)
                i += 1
        finally:
            closed.set()

    stream = prefetch(source())
    next(stream)
    assert threads()
    if leave == "close":
        stream.close()
    del stream
    assert closed.is_set()
    assert not threads()


def test_reading_nothing_starts_nothing():
    stream = prefetch([batch(0)])
    assert not threads()
    stream.close()


def test_a_size_below_one_is_refused_at_once():
    with pytest.raises(ValueError, match="prefetch size: expected at least 1, got 0"):
        prefetch([], size=0)
