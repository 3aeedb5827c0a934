"""Upload of a working folder to its URL, in an order that keeps the copy usable after a kill at any instant.

A store holds whole objects only. The file with the checksums of a checkpoint is uploaded last, so a checkpoint with
this file is complete. The log and the older `best`, which a run needs to resume from a `last`, are uploaded before that
`last`. Superseded checkpoints are deleted after it, their checksums first.
"""

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ugs_jax.atomic import write_atomically
from ugs_jax.runs.checkpoint import KEPT
from ugs_jax.runs.checksums import checksum_file
from ugs_jax.runs.remote.run import LOGS, Steps, mark, whole_here, whole_there
from ugs_jax.runs.remote.store import Remote

OWNER = "owner.json"
_FROZEN = ".uploading"


class FencedError(BlockingIOError):
    """Another run has claimed the URL. This run has stopped before it overwrote anything there."""


class Upload:
    """Upload that keeps a URL up to date with a working folder, as long as no other run has claimed the URL.

    Args:
      remote: Folder at the URL.
      folder: Local working folder.
    """

    def __init__(self, remote: Remote, folder: Path) -> None:
        self._remote, self._folder = remote, folder
        self._token = secrets.token_hex(16)
        self._names: set[str] = set()
        self._whole: Steps = {which: set() for which in KEPT}
        self._stamps: dict[str, tuple[int, int]] = {}

    def claim(self, newest: int) -> None:
        """Claim the URL for this run. A run that had claimed it before stops at its next upload.

        Checkpoints at the URL that are newer than the one that this run continues from are marked as incomplete,
        because the log of this run is shorter.

        Args:
          newest: Step of the checkpoint that this run continues from; -1 without one.

        Raises:
          RemoteError: The URL cannot be written.
        """
        owner = {"token": self._token, "host": socket.gethostname(), "process": os.getpid(), "time": time.ctime()}
        write_atomically(self._folder / f".{OWNER}", json.dumps(owner, indent=1).encode())
        self._remote.upload(self._folder / f".{OWNER}", OWNER)
        self._names = self._remote.names()
        for which, steps in whole_there(self._names).items():
            for step in sorted(steps, reverse=True):
                if step <= newest and self._is_ours(which, step):
                    self._whole[which].add(step)
                else:
                    self._delete(mark(which, step))

    def run(self) -> None:
        """Upload new files, and delete superseded checkpoints.

        Raises:
          FencedError: Another run has claimed the URL.
          RemoteError: The store cannot be reached, or refuses access. The next call continues.
        """
        steps = whole_here(
            self._folder
        )  # read before the log is uploaded, so that the log has all rows up to these steps
        try:
            self._upload_files()
            for which in ("best", "last"):
                new = max(steps[which], default=None)
                if new is not None and new not in self._whole[which]:
                    self._upload_checkpoint(which, new)
        except (FileNotFoundError, shutil.Error):
            if whole_here(self._folder) == steps:
                raise
            self.run()  # a checkpoint was deleted in the meantime, so there are newer ones
        else:
            self._delete_old()

    def _is_ours(self, which: str, step: int) -> bool:
        """Return True if a remote checkpoint equals that of the folder, or the folder has no such checkpoint."""
        here = checksum_file(self._folder / "checkpoints", which, step)
        return not here.exists() or self._remote.read(mark(which, step)) == here.read_bytes()

    def _upload_files(self) -> None:
        """Upload the log, pictures and all other new files, except checkpoints and hidden files."""
        files = {path.relative_to(self._folder).as_posix(): path for path in self._folder.rglob("*") if path.is_file()}
        for name in sorted(files, key=lambda name: (name not in LOGS, name)):
            if name.startswith("checkpoints/") or any(part.startswith(".") for part in name.split("/")):
                continue
            status = files[name].stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if self._stamps.get(name) != stamp:
                self._put(files[name], name)
                self._stamps[name] = stamp

    def _upload_checkpoint(self, which: str, step: int) -> None:
        with self._frozen(which, step) as (place, checksums):
            if mark(which, step) in self._names:
                self._delete(mark(which, step))
            for file in sorted(path for path in place.rglob("*") if path.is_file()):
                self._put(file, f"checkpoints/{which}/{step}/{file.relative_to(place).as_posix()}")
            self._put(checksums, mark(which, step))
        self._whole[which].add(step)

    @contextmanager
    def _frozen(self, which: str, step: int) -> Iterator[tuple[Path, Path]]:
        """Link a checkpoint under other names, so that it may be deleted during the upload."""
        frozen = self._folder / _FROZEN
        shutil.rmtree(frozen, ignore_errors=True)
        checkpoints = self._folder / "checkpoints"
        shutil.copytree(checkpoints / which / str(step), frozen / "files", copy_function=_link)
        checksums = frozen / "checksums.json"
        shutil.copyfile(checksum_file(checkpoints, which, step), checksums)
        try:
            yield frozen / "files", checksums
        finally:
            shutil.rmtree(frozen, ignore_errors=True)

    def _delete_old(self) -> None:
        if max(self._whole["best"], default=-1) > max(self._whole["last"], default=-1):
            return  # the remote `last` may belong to the `best` before
        for which, count in KEPT.items():
            keep = sorted(self._whole[which])[-count:]
            self._whole[which] = set(keep)
            kept = tuple(f"checkpoints/{which}/{step}/" for step in keep)
            for step in whole_there(self._names)[which] - set(keep):
                self._delete(mark(which, step))
            files = sorted(name for name in self._names if name.startswith(f"checkpoints/{which}/"))
            for name in files:
                if not name.startswith(kept):
                    self._delete(name)

    def _put(self, file: Path, name: str) -> None:
        self._check_owner()
        self._remote.upload(file, name)
        self._names.add(name)

    def _delete(self, name: str) -> None:
        self._check_owner()
        self._remote.delete(name)
        self._names.discard(name)

    def _check_owner(self) -> None:
        content = self._remote.read(OWNER)
        try:
            owner = json.loads(content or b"{}")
        except ValueError:
            owner = {}
        if owner.get("token") != self._token:
            who = (
                f"process {owner.get('process')} on {owner.get('host')}" if owner else "nobody: its files were removed"
            )
            raise FencedError(
                f"{self._remote.url}: expected to be the only run there, but the newest claim is of {who} "
                f"({owner.get('time', 'now')}). This run stops before it overwrites anything; its files are in "
                f"{self._folder}"
            )


def _link(source: str, target: str) -> None:
    """Create a hard link to a file that is already written, or a copy if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
