"""Throughput of training and the share of time that it waits for data, without compilation."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Counter of images and seconds between two rows of the log.

    The first step of a process compiles, so the clock starts when that step is done. It starts again after every step
    on a batch of new shapes, which compiles, too. If steps run asynchronously, as on
    accelerators, the device works during some of the time that the host waits. The measured share is therefore an upper
    bound for the cost of loading data.

    Args:
      batch_size: Number of images per step.
      clock: Function that returns the time in seconds; tests replace it.
    """

    def __init__(self, batch_size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._batch_size, self._clock = batch_size, clock
        self._started = 0.0
        self._steps, self._waited, self.running = 0, 0.0, False

    def start(self) -> None:
        """Reset the counts and start the clock."""
        self._started, self._steps, self._waited, self.running = self._clock(), 0, 0.0, True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside this context as waiting for data."""
        asked = self._clock()
        yield
        self._waited += self._clock() - asked

    def count(self) -> None:
        """Count one step."""
        self._steps += 1

    def read(self) -> dict[str, float | None]:
        """Return `images_per_second` and `host_wait_share` since the start; None before the first timed step."""
        seconds = self._clock() - self._started
        if not self.running or not self._steps or seconds <= 0:
            return {"images_per_second": None, "host_wait_share": None}
        return {
            "images_per_second": self._steps * self._batch_size / seconds,
            "host_wait_share": self._waited / seconds,
        }
