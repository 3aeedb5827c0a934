"""Checkpoints of a run at a URL: finding the complete ones, and downloading them."""

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
    """Checkpoint that a run continues from.

    Attributes:
      step: Step of the newest complete checkpoint; negative if there is none.
      fetched: True if it was just downloaded from the URL.
    """

    step: int
    fetched: bool


def mark(which: str, step: int) -> str:
    """Return the file of a remote checkpoint that is uploaded last. A checkpoint without this file is incomplete."""
    return f"checkpoints/checksums/{which}/{step}.json"


def whole_there(names: set[str]) -> Steps:
    """Return the steps of the checkpoints at a URL that were uploaded completely, for `last` and `best`."""
    steps: Steps = {which: set() for which in KEPT}
    for match in filter(None, map(_MARK.fullmatch, names)):
        steps[match[1]].add(int(match[2]))
    return steps


def whole_here(folder: Path) -> Steps:
    """Return the steps of the checkpoints of a run folder that were written completely, for `last` and `best`."""
    names = {which: [path.name for path in (folder / "checkpoints" / which).glob("[0-9]*")] for which in KEPT}
    return {which: {int(name) for name in names[which] if name.isdigit()} for which in KEPT}


def fetch_newer(remote: Remote, names: set[str], folder: Path) -> Newest:
    """Replace a run folder by the remote run, if that has a newer complete checkpoint.

    After a kill at any instant, the folder is either unchanged or marked as incomplete. The next call clears an
    incomplete folder.

    Args:
      remote: URL of the run.
      names: Names of its files.
      folder: Working folder of the run, locked.

    Raises:
      ValueError: Every remote `last` is damaged, and the folder has none.
      RemoteError: The files cannot be read.
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
        _logger.warning("%s: the run continues without its best checkpoint, which is damaged there", remote.url)
    download_logs(remote, names, folder / _ASIDE)
    (folder / _HALF).touch()
    _clear(folder, but=(_ASIDE,))
    for path in (folder / _ASIDE).iterdir():
        path.rename(folder / path.name)
    (folder / _ASIDE).rmdir()
    (folder / _HALF).unlink()
    return Newest(_NO_CHECKPOINT if step is None else step, fetched=True)


def download_newest(remote: Remote, names: set[str], which: str, steps: set[int], folder: Path) -> int | None:
    """Download the newest undamaged checkpoint into a local run folder.

    Args:
      remote: URL of the run.
      names: Names of its files.
      which: Kind of the checkpoint, `last` or `best`.
      steps: Steps of the complete checkpoints at the URL.
      folder: Local run folder.

    Returns:
      Step of the checkpoint; None if all are damaged.

    Raises:
      RemoteError: The files cannot be read.
    """
    checkpoints = folder / "checkpoints"
    for step in sorted(steps, reverse=True):
        checkpoint = checkpoints / which / str(step)
        shutil.rmtree(checkpoint, ignore_errors=True)
        for name in sorted(names):
            if name.startswith(f"checkpoints/{which}/{step}/"):
                remote.download(name, folder / name)
        remote.download(mark(which, step), checksum_file(checkpoints, which, step))
        damage = find_damage(checkpoints, which, step)
        if not damage:
            return step
        shutil.rmtree(checkpoint, ignore_errors=True)
        checksum_file(checkpoints, which, step).unlink()
        _logger.warning("%s: expected checkpoint %s/%d to be whole, but %s", remote.url, which, step, damage)
    return None


def download_logs(remote: Remote, names: set[str], folder: Path) -> None:
    """Download config, metrics and timing into a local folder. Missing files are skipped.

    Raises:
      RemoteError: The files cannot be read.
    """
    for name in LOGS:
        if name in names:
            remote.download(name, folder / name)


def all_damaged(remote: Remote, which: str) -> ValueError:
    """Return the error for a run without a usable checkpoint."""
    return ValueError(
        f"{remote.url}/checkpoints/{which}: expected a whole checkpoint, but all are damaged. Restore the files, "
        "delete the damaged ones, or train again in another --folder"
    )


def _newest_undamaged(folder: Path) -> int:
    """Return the step of the newest undamaged `last` of a run folder."""
    steps = sorted(whole_here(folder)["last"], reverse=True)
    return next((step for step in steps if not find_damage(folder / "checkpoints", "last", step)), _NO_CHECKPOINT)


def _clear(folder: Path, but: tuple[str, ...] = ()) -> None:
    """Delete the contents of a working folder. The mark of an incomplete folder is deleted last."""
    for path in folder.iterdir():
        if path.name not in (_HALF, _LOCK, *but):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not but:
        (folder / _HALF).unlink(missing_ok=True)
