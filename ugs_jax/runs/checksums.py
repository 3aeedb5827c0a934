"""Checksums of the files of a checkpoint, to detect damage."""

import hashlib
import json
from pathlib import Path

from ugs_jax.atomic import write_atomically


def checksum_file(folder: Path, which: str, step: int | str) -> Path:
    """Return the path of the checksums of a checkpoint.

    Args:
      folder: Folder of all checkpoints of a run.
      which: Kind of the checkpoint, `last` or `best`.
      step: Step of the checkpoint.
    """
    return folder / "checksums" / which / f"{step}.json"


def note_checksums(checkpoint: Path, file: Path) -> None:
    """Write the SHA-256 of all files of a checkpoint to `file`."""
    write_atomically(file, json.dumps(_sums(checkpoint), indent=1).encode())


def find_damage(folder: Path, which: str, step: int) -> str:
    """Return a description of the damage to a checkpoint; empty if there is no damage or no checksums.

    A symbolic link counts as damage, because checkpoints contain none and it could point to any file.

    Args:
      folder: Folder of all checkpoints of a run.
      which: Kind of the checkpoint, `last` or `best`.
      step: Step of the checkpoint.
    """
    checkpoint = folder / which / str(step)
    for path in (checkpoint, *checkpoint.rglob("*")):
        if path.is_symlink():
            return f"{path.name} is a symbolic link"
    checksums = checksum_file(folder, which, step)
    if not checksums.exists():
        return ""
    try:
        want = json.loads(checksums.read_text())
    except ValueError:
        return f"{checksums} is not JSON"
    sums = _sums(checkpoint)
    for name, checksum in want.items():
        if sums.get(name) != checksum:
            return f"{name} is {'not what was written' if name in sums else 'missing'}"
    return ""


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder, by its relative path.

    Orbax's file of time stamps is left out, because it is written last.
    """
    sums = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "_CHECKPOINT_METADATA"):
        with file.open("rb") as stream:
            sums[file.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums
