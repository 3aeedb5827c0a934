"""A run at a URL: which of its checkpoints are whole, and how they come to this machine."""

import logging
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from ugs_jax.runs.checkpoint import KEPT
from ugs_jax.runs.checksums import checksum_file, find_damage
from ugs_jax.runs.remote.store import Remote
from ugs_jax.runs.run_folder import RunFolder

_logger = logging.getLogger(__name__)
LOGS = ("config.json", "metrics.jsonl", "timing.jsonl")
_MARK = re.compile(r"checkpoints/checksums/(last|best)/(\d+)\.json")
_HALF, _ASIDE, _LOCK = ".half-downloaded", ".download", ".lock"
_NO_CHECKPOINT, _NO_RUN = -1, -2
Steps = dict[str, set[int]]


class Newest(NamedTuple):
    """What a run goes on from.

    Attributes:
      step: of the newest whole checkpoint; negative without one.
      fetched: whether it came from the URL just now.
    """

    step: int
    fetched: bool


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


def fetch_newer(remote: Remote, names: set[str], folder: Path) -> Newest:
    """Make a run folder what the remote run is, if the latter has the newer whole checkpoint.

    A kill at any instant leaves the folder as it was, or marked as half of one, which the next call clears.

    Args:
      remote: the run.
      names: its files.
      folder: its working folder, locked.

    Raises:
      ValueError: every `last` there is damaged, and there is none here.
      RemoteError: the files cannot be read.
    """
    if (folder / _HALF).exists():
        _clear(folder)
    shutil.rmtree(folder / _ASIDE, ignore_errors=True)
    here = _newest_undamaged(folder) if RunFolder(folder).begun else _NO_RUN
    whole = whole_there(names)
    newer = {step for step in whole["last"] if step > here}
    step = download_newest(remote, names, "last", newer, folder / _ASIDE)
    if step is None and newer and here < 0:
        raise all_damaged(remote, "last")
    if step is None and (here > _NO_RUN or "config.json" not in names):
        return Newest(here, fetched=False)
    older = {other for other in whole["best"] if step is not None and other <= step}
    if older and download_newest(remote, names, "best", older, folder / _ASIDE) is None:
        _logger.warning("%s: the run goes on without its best checkpoint, which is damaged there", remote.url)
    download_logs(remote, names, folder / _ASIDE)
    (folder / _HALF).touch()
    _clear(folder, but=(_ASIDE,))
    for path in (folder / _ASIDE).iterdir():
        path.rename(folder / path.name)
    (folder / _ASIDE).rmdir()
    (folder / _HALF).unlink()
    return Newest(_NO_CHECKPOINT if step is None else step, fetched=True)


def download_newest(remote: Remote, names: set[str], which: str, steps: set[int], folder: Path) -> int | None:
    """Copy the newest of some checkpoints that is not damaged into a run folder of this machine.

    Args:
      remote: the run.
      names: its files.
      which: `last` or `best`.
      steps: of checkpoints that are whole there.
      folder: of this machine.

    Returns:
      Its step; None if all are damaged.

    Raises:
      RemoteError: the files cannot be read.
    """
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


def download_logs(remote: Remote, names: set[str], folder: Path) -> None:
    """Copy config, metrics and timing, as far as they are there, into a folder of this machine.

    Raises:
      RemoteError: the files cannot be read.
    """
    for name in LOGS:
        if name in names:
            remote.download(name, folder / name)


def all_damaged(remote: Remote, which: str) -> ValueError:
    """The error of a run without a checkpoint that can be used."""
    return ValueError(
        f"{remote.url}/checkpoints/{which}: expected a whole checkpoint, but all are damaged. Restore the files, "
        "delete the damaged ones, or train anew in another --folder"
    )


def _newest_undamaged(folder: Path) -> int:
    """Step of the newest `last` of a run folder whose files are what was written."""
    steps = sorted(whole_here(folder)["last"], reverse=True)
    return next((step for step in steps if not find_damage(folder / "checkpoints", "last", step)), _NO_CHECKPOINT)


def _clear(folder: Path, but: tuple[str, ...] = ()) -> None:
    """Delete what is in a working folder, the note last that it is half of one."""
    for path in folder.iterdir():
        if path.name not in (_HALF, _LOCK, *but):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not but:
        (folder / _HALF).unlink(missing_ok=True)
