"""Event files for TensorBoard, written in the caller's thread, so that the caller gets the errors."""

import time
from pathlib import Path

_PERIOD = 60.0
"""Seconds between two writes to disk."""


class EventLog:
    """New event file in a folder.

    The `SummaryWriter` of tensorboardX writes in a thread of its own. If the disk is full, that thread ends without a
    message, and the next scalars wait for it forever.

    Args:
      folder: Existing folder.

    Raises:
      OSError: The file cannot be written. All methods raise this error too.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._writer = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()

    def add(self, name: str, value: float, step: int) -> None:
        """Add a scalar.

        Args:
          name: Name, with `/` between groups.
          value: Value of the scalar.
          step: Step of the run.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > _PERIOD:
            self.flush()

    def flush(self) -> None:
        """Write all scalars that were added."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write all scalars that were added, and close the file."""
        self._writer.close()
