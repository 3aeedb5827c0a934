"""Checksums of the files of a checkpoint, by which a damaged one is told from a whole one."""

import hashlib
import json
from pathlib import Path

from ugs_jax.atomic import write_atomically


def checksum_file(folder: Path, which: str, step: int | str) -> Path:
    """Where the checksums of a checkpoint are.

    Args:
      folder: of all checkpoints of a run.
      which: `last` or `best`.
      step: of the checkpoint.
    """
    return folder / "checksums" / which / f"{step}.json"


def note_checksums(place: Path, file: Path) -> None:
    """Write the SHA-256 of all files under `place` to `file`."""
    write_atomically(file, json.dumps(_sums(place), indent=1).encode())


def find_damage(folder: Path, which: str, step: int) -> str:
    """What is wrong with the files of a checkpoint; empty if nothing is, or if it has no checksums.

    A link is wrong: nothing here makes one, and it could lead anywhere.
    """
    place = folder / which / str(step)
    for path in (place, *place.rglob("*")):
        if path.is_symlink():
            return f"{path.name} is a link"
    checksums = checksum_file(folder, which, step)
    if not checksums.exists():
        return ""
    try:
        want = json.loads(checksums.read_text())
    except ValueError:
        return f"{checksums} is not JSON"
    found = _sums(place)
    for name, checksum in want.items():
        if found.get(name) != checksum:
            return f"{name} is {'not what was written' if name in found else 'missing'}"
    return ""


def _sums(place: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by its path in there, but of Orbax's note of the time, which comes last."""
    sums = {}
    for file in sorted(path for path in place.rglob("*") if path.is_file() and path.name != "_CHECKPOINT_METADATA"):
        with file.open("rb") as stream:
            sums[file.relative_to(place).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums
