"""Atomic writes: a reader never sees a partial file, and a failed append leaves no partial line."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file in one step: write a temporary file in the same folder, then rename it. Create a missing folder.

    Args:
      path: File to write or replace.
      data: Complete contents of the file.
    """
    with replacing(path) as stream:
        stream.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the same folder, and rename it to `path` at the end. After an error it is removed.

    A missing folder is created. Contents that do not fit in memory can be written piece by piece.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with replacing(Path(folder) / "list.txt") as stream:
      ...         for line in (b"one", b"two"):
      ...             _ = stream.write(line + b";")
      ...     (Path(folder) / "list.txt").read_text()
      'one;two;'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def append_whole(path: Path, data: bytes) -> None:
    """Append all of `data` to a file, or nothing if an error occurs. Create a missing file.

    Args:
      path: File to append to.
      data: Bytes to append.

    Raises:
      OSError: The data cannot be written, for example for lack of space or permission. The file keeps its length.
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
