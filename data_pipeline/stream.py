"""Reading batches of a Grain data set in threads and worker processes."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from data_pipeline.batch import Batch
from data_pipeline.rows import Row

if TYPE_CHECKING:
    import grain


def iterate(batches: "grain.MapDataset", threads: int, workers: int) -> Generator[Row, None, None]:
    """Gives batches of rows in order; closing the iterator ends the threads and processes.

    Args:
      batches: random access; has to pickle if there are workers.
      threads: reading threads in each process; 0 reads in the caller's thread.
      workers: processes; 0 reads in this one.
    """
    import grain

    ready: Any = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which only absl's own main would parse
        ready = ready.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2), worker_init_fn=_start_worker
        )
    iterator = iter(ready)
    try:
        yield from map(_owned, iterator) if workers else iterator
    finally:
        iterator.close()


def _owned(row: Row) -> Row:
    # What comes from a worker lies in shared memory, which Python reports as leaked if a batch is alive at exit.
    return Row(Batch(*map(np.array, row.batch)), *map(np.array, row[1:]))


def _start_worker(worker: int, workers: int) -> None:
    del worker, workers  # they all start alike
    import data_pipeline.builder  # noqa: F401, not first in a loading thread: see `data_pipeline.cache`

    cv2.setNumThreads(1)  # workers share the cores already; a thread pool in each would fight over them
