"""Reading a Grain data set in threads and worker processes."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import cv2

if TYPE_CHECKING:
    import grain


def iterate(elements: "grain.MapDataset", threads: int, workers: int) -> Generator[Any, None, None]:
    """Gives the elements in order; closing the iterator ends the threads and processes.

    Args:
      elements: random access; has to pickle if there are workers.
      threads: reading threads in each process; 0 reads in the caller's thread.
      workers: processes; 0 reads in this one.
    """
    import grain

    ready: Any = elements.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which only absl's own main would parse
        ready = ready.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2), worker_init_fn=_start_worker
        )
    iterator = iter(ready)
    try:
        yield from iterator
    finally:
        iterator.close()


def _start_worker(worker: int, workers: int) -> None:
    del worker, workers  # they all start alike
    cv2.setNumThreads(1)  # workers share the cores already; a thread pool in each would fight over them
