"""How fast training goes, and how much of that time it waits for data; compilation is left out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Counts images and seconds from one row of the log to the next.

    The first step of a process compiles, so the clock starts when that step is done. Where steps run while the host
    goes on, as on accelerators, the device works during some of the host's waiting: its share is the most that data
    can cost.

    Args:
      batch_size: images a step.
      clock: seconds; a parameter for the tests.
    """

    def __init__(self, batch_size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._batch_size, self._clock = batch_size, clock
        self._started = 0.0
        self._steps, self._waited, self.running = 0, 0.0, False

    def start(self) -> None:
        """Start anew from here."""
        self._started, self._steps, self._waited, self.running = self._clock(), 0, 0.0, True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent inside is waiting for data."""
        asked = self._clock()
        yield
        self._waited += self._clock() - asked

    def count(self) -> None:
        """One step more."""
        self._steps += 1

    def read(self) -> dict[str, float | None]:
        """`images_per_second` and `host_wait_share` since the start; None while nothing has been timed."""
        seconds = self._clock() - self._started
        if not self.running or not self._steps or seconds <= 0:
            return {"images_per_second": None, "host_wait_share": None}
        return {
            "images_per_second": self._steps * self._batch_size / seconds,
            "host_wait_share": self._waited / seconds,
        }
