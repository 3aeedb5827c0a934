"""Prefetching of batches to the device."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from data_pipeline.batch import Batch

if TYPE_CHECKING:
    import jax
    import numpy as np


def prefetch(
    batches: Iterable[Batch], sharding: "jax.sharding.Sharding | Batch | None" = None, size: int = 2
) -> Generator[Batch, None, None]:
    """Read batches and copy them to the device in a background thread, up to `size` ahead of the consumer.

    An exception in `batches` is raised in place of its batch. When the consumer stops (the iterator is closed, dropped
    or exhausted), the thread ends and `batches` is closed.

    Args:
      batches: NumPy batches. With several processes, this process's part of each batch.
      sharding: Sharding of all arrays, or a batch with one sharding for each array. Without it, the default device is
        used. Rows are split along the leading axis. For a split along other axes, every process gives whole rows and
        its devices take their parts of them.
      size: Number of batches that are read ahead, at least 1.

    Returns:
      The same batches as JAX arrays. With several processes, the global batches.
    """
    if size < 1:
        raise ValueError(f"prefetch size: expected at least 1, got {size}")
    return _prefetched(batches, sharding, size)


def _prefetched(
    batches: Iterable[Batch], sharding: "jax.sharding.Sharding | Batch | None", size: int
) -> Generator[Batch, None, None]:
    iterator = iter(batches)

    def load() -> Batch | None:
        batch = next(iterator, None)
        return None if batch is None else _to_device(batch, sharding)

    # A single thread preserves the order. A future carries an exception to the consumer.
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        pending = deque(pool.submit(load) for _ in range(size))
        try:
            while (batch := pending.popleft().result()) is not None:
                pending.append(pool.submit(load))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


def _to_device(batch: Batch, sharding: "jax.sharding.Sharding | Batch | None") -> Batch:
    import jax

    if jax.process_count() == 1 or sharding is None:
        return jax.device_put(batch, sharding)
    each: Any = sharding if isinstance(sharding, Batch) else (sharding,) * len(batch)
    arrays: Any = map(_global_array, each, batch)
    return Batch(*arrays)


def _global_array(sharding: "jax.sharding.Sharding", rows: "np.ndarray") -> "jax.Array":
    """Return the global array of which every process holds some rows. Processes that share rows hold the same ones."""
    import jax

    any_length = (len(sharding.device_set), *rows.shape[1:])
    starts = lambda indices: len({index[0].start for index in indices.values()})  # noqa: E731
    here, everywhere = sharding.addressable_devices_indices_map(any_length), sharding.devices_indices_map(any_length)
    length = len(rows) * starts(everywhere) // starts(here)
    return jax.make_array_from_process_local_data(sharding, rows, (length, *rows.shape[1:]))
