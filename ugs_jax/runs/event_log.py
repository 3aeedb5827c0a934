"""Event files for TensorBoard, written in the caller's thread, so that an error comes where it can be told."""

import time
from pathlib import Path

_PERIOD = 60.0
"""Seconds after which what is noted is written, so that a viewer sees it."""


class EventLog:
    """A new event file in a folder.

    TensorBoardX's own `SummaryWriter` writes in a thread, which a full disk ends without a word; the next scalars then
    wait for it for ever.

    Args:
      folder: where there is one.

    Raises:
      OSError: as all methods do: the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._writer = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()

    def add(self, name: str, value: float, step: int) -> None:
        """Note a number.

        Args:
          name: with `/` between groups.
          value: of the number.
          step: of the run.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > _PERIOD:
            self.flush()

    def flush(self) -> None:
        """Write what is noted."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is noted, and end."""
        self._writer.close()
