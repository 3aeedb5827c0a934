"""Reading of the batches of a Grain data set in threads and worker processes."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from data_pipeline.batch import Batch
from data_pipeline.rows import Row

if TYPE_CHECKING:
    import grain


def iterate(batches: "grain.MapDataset", threads: int, workers: int) -> Generator[Row, None, None]:
    """Yield batches of rows in order. Closing the iterator ends the threads and processes.

    Args:
      batches: Batches with random access. They must be picklable if there are workers.
      threads: Reading threads in each process. 0 reads in the caller's thread.
      workers: Worker processes. 0 reads in this process.
    """
    import grain

    ready: Any = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which only absl's main function parses
        ready = ready.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2), worker_init_fn=_start_worker
        )
    iterator = iter(ready)
    try:
        yield from map(_owned, iterator) if workers else iterator
    finally:
        iterator.close()


def _owned(row: Row) -> Row:
    # Arrays from a worker lie in shared memory, which Python reports as leaked if a batch is still alive at exit.
    return Row(Batch(*map(np.array, row.batch)), *map(np.array, row[1:]))


def _start_worker(worker: int, workers: int) -> None:
    del worker, workers  # all workers start in the same way
    import data_pipeline.builder  # noqa: F401, imported before the first loading thread, see `data_pipeline.cache`

    cv2.setNumThreads(1)  # the workers already share the cores; a thread pool in each would compete for them
