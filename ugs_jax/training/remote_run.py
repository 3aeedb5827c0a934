"""A run at a URL: which of its checkpoints are whole, and how they come to this machine."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ugs_jax.training.checkpoint import KEPT
from ugs_jax.training.checksums import checksum_file, find_damage
from ugs_jax.training.remote import Remote, is_url
from ugs_jax.training.run_folder import RunFolder

_logger = logging.getLogger(__name__)
LOGS = ("config.json", "metrics.jsonl", "timing.jsonl")
_MARK = re.compile(r"checkpoints/checksums/(last|best)/(\d+)\.json")
_HALF, _ASIDE, _LOCK = ".half-downloaded", ".download", ".lock"
Steps = dict[str, set[int]]


def mark(which: str, step: int) -> str:
    """The file of a remote checkpoint that is uploaded last; one without it is not whole."""
    return f"checkpoints/checksums/{which}/{step}.json"


def whole_there(names: set[str]) -> Steps:
    """Steps of the checkpoints at a URL that were uploaded to the end, by `last` and `best`."""
    found: Steps = {which: set() for which in KEPT}
    for match in filter(None, map(_MARK.fullmatch, names)):
        found[match[1]].add(int(match[2]))
    return found


def whole_here(folder: Path) -> Steps:
    """Steps of the checkpoints of a run folder that were written to the end, by `last` and `best`."""
    names = {which: [place.name for place in (folder / "checkpoints" / which).glob("[0-9]*")] for which in KEPT}
    return {which: {int(name) for name in names[which] if name.isdigit()} for which in KEPT}


def newest_undamaged(folder: Path) -> int:
    """Step of the newest `last` of a run folder whose files are what was written; -1 without one."""
    steps = sorted(whole_here(folder)["last"], reverse=True)
    return next((step for step in steps if not find_damage(folder / "checkpoints", "last", step)), -1)


def fetch_newer(remote: Remote, names: set[str], folder: Path) -> int | None:
    """Make a run folder what the remote run is, if the latter has the newer whole checkpoint.

    A kill at any instant leaves the folder as it was, or marked as half of one, which the next call clears.

    Args:
      remote: the run.
      names: its files.
      folder: its working folder, locked.

    Returns:
      Step of the checkpoint that was fetched, 0 for a run that had none yet; None if the folder is as new.

    Raises:
      ValueError: the remote run has checkpoints, all of them damaged, and there is none here.
      RemoteError: the files cannot be read.
    """
    if (folder / _HALF).exists():
        _clear(folder)
    shutil.rmtree(folder / _ASIDE, ignore_errors=True)
    here = newest_undamaged(folder) if RunFolder(folder).begun else -2
    if here == -2 and "config.json" in names and not whole_there(names)["last"]:
        step = -1
    else:
        newer = {step for step in whole_there(names)["last"] if step > here}
        found = _download_newest(remote, names, "last", newer, folder / _ASIDE)
        if found is None and newer and here < 0:
            raise _all_damaged(remote, "last")
        if found is None:
            return None
        step = found
        older = {other for other in whole_there(names)["best"] if other <= step}
        if older and _download_newest(remote, names, "best", older, folder / _ASIDE) is None:
            raise _all_damaged(remote, "best")
    _download_logs(remote, names, folder / _ASIDE)
    (folder / _HALF).touch()
    _clear(folder, but=(_ASIDE,))
    for path in (folder / _ASIDE).iterdir():
        path.rename(folder / path.name)
    (folder / _ASIDE).rmdir()
    (folder / _HALF).unlink()
    return max(step, 0)


class OpenedRun:
    """A run to look at: `folder` has its files, `name` is what the user calls it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def shown(self, file: Path) -> str:
        """What the user calls a file that was written into the folder."""
        inside = file.is_relative_to(self.folder)
        return f"{self.name}/{file.relative_to(self.folder).as_posix()}" if inside else str(file)


@contextmanager
def opened_run(run: str, which: str | None = None) -> Iterator[OpenedRun]:
    """A run folder, or a copy of the run at a URL; what is written into the copy is uploaded at the end.

    Args:
      run: folder or URL.
      which: checkpoint that is needed, `best` or `last`; None for none.

    Raises:
      FileNotFoundError: no run there.
      ValueError: all checkpoints there are damaged, or a URL of an unknown kind.
      RemoteError: the files cannot be read or written.
    """
    if not is_url(run):
        yield OpenedRun(Path(run), run.rstrip("/"))
        return
    remote = Remote(run)
    names = remote.names()
    if "config.json" not in names:
        raise FileNotFoundError(f"{run}: expected a run folder with a config.json, found none; give a run's URL")
    with TemporaryDirectory(prefix="ugs-run-") as place:
        folder = Path(place)
        _download_logs(remote, names, folder)
        steps = whole_there(names)[which] if which else set()
        if which and steps and _download_newest(remote, names, which, steps, folder) is None:
            raise _all_damaged(remote, which)
        before = set(folder.rglob("*"))
        yield OpenedRun(folder, remote.url)
        for file in sorted(set(folder.rglob("*")) - before):
            if file.is_file() and not file.name.startswith("."):
                remote.upload(file, file.relative_to(folder).as_posix())


def _download_newest(remote: Remote, names: set[str], which: str, steps: set[int], folder: Path) -> int | None:
    """The newest of some checkpoints that is whole, into a folder; its step, or None."""
    checkpoints = folder / "checkpoints"
    for step in sorted(steps, reverse=True):
        place = checkpoints / which / str(step)
        shutil.rmtree(place, ignore_errors=True)
        for name in sorted(names):
            if name.startswith(f"checkpoints/{which}/{step}/"):
                remote.download(name, folder / name)
        remote.download(mark(which, step), checksum_file(checkpoints, which, step))
        damage = find_damage(checkpoints, which, step)
        if not damage:
            return step
        shutil.rmtree(place, ignore_errors=True)
        checksum_file(checkpoints, which, step).unlink()
        _logger.warning("%s: expected checkpoint %s/%d to be whole, but %s", remote.url, which, step, damage)
    return None


def _download_logs(remote: Remote, names: set[str], folder: Path) -> None:
    for name in LOGS:
        if name in names:
            remote.download(name, folder / name)


def _clear(folder: Path, but: tuple[str, ...] = ()) -> None:
    """Delete what is in a working folder, the note last that it is half of one."""
    for path in folder.iterdir():
        if path.name not in (_HALF, _LOCK, *but):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not but:
        (folder / _HALF).unlink(missing_ok=True)


def _all_damaged(remote: Remote, which: str) -> ValueError:
    return ValueError(
        f"{remote.url}/checkpoints/{which}: expected a whole checkpoint, but all are damaged. Restore the files, "
        "delete the damaged ones, or train anew in another --folder"
    )
