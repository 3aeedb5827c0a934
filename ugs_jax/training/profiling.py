"""Profile of a few training steps, for the standard viewers."""

from pathlib import Path
from typing import Any

import jax

_SKIPPED, _STEPS = 2, 10  # the first step compiles, the second fills the queues


class Profiler:
    """Profiler of steps 3 to 12 of a process, or fewer in a shorter run.

    XProf and TensorBoard open the folder (`plugins/profile/…`), and Perfetto opens `perfetto_trace.json.gz`.

    Args:
      folder: Folder for the profile; None disables profiling.
      start: Number of steps that were taken before this process started.
    """

    def __init__(self, folder: Path | None, start: int) -> None:
        self._folder, self._first = folder, start + _SKIPPED + 1
        self._running = False

    def before(self, step: int) -> None:
        """Start the profile if `step`, which is about to run, is the first one to record."""
        if self._folder is not None and step == self._first:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._running = True

    def after(self, step: int, metrics: Any) -> None:
        """Finish the profile if `step`, which was dispatched and returns `metrics`, is the last one to record."""
        if self._running and step == self._first + _STEPS - 1:
            self.close(metrics)

    def close(self, metrics: Any = None) -> None:
        """Wait for the steps to finish, and write the profile."""
        if self._running:
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()
            self._running = False
