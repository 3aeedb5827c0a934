"""Writing files so that a reader never sees half of one, and appending so that none ends with half of a line."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` beside `path` and moves it there in one step; makes the folder where there is none.

    Args:
      path: file to write or replace.
      data: its whole contents.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def append_whole(path: Path, data: bytes) -> None:
    """Appends all of `data`, or nothing where that cannot be written; makes the file where there is none.

    Args:
      path: file to append to.
      data: what follows its contents.

    Raises:
      OSError: no space or no permission; the file is as long as before.
    """
    with path.open("ab", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += stream.write(data[written:])
        except OSError:
            with contextlib.suppress(OSError):
                stream.truncate(size)
            raise
