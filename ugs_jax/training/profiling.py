"""A profile of a few training steps, for the standard viewers."""

from pathlib import Path
from typing import Any

import jax

_SKIPPED, _STEPS = 2, 10  # the first compiles, the second fills the queues


class Profiler:
    """Records steps 3 to 12 of a process, or fewer where there are fewer, into a folder.

    What it leaves opens in XProf and TensorBoard (`plugins/profile/…`), and `perfetto_trace.json.gz` in Perfetto.

    Args:
      folder: for the profile; None records nothing.
      start: steps taken before this process began.
    """

    def __init__(self, folder: Path | None, start: int) -> None:
        self._folder, self._first = folder, start + _SKIPPED + 1
        self._running = False

    def before(self, step: int) -> None:
        """About to take a step."""
        if self._folder is not None and step == self._first:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._running = True

    def after(self, step: int, metrics: Any) -> None:
        """A step was dispatched, which measures `metrics`."""
        if self._running and step == self._first + _STEPS - 1:
            self.close(metrics)

    def close(self, metrics: Any = None) -> None:
        """Wait for the steps and write what was recorded."""
        if self._running:
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()
            self._running = False
