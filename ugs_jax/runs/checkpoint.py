"""Orbax checkpoints of a run: the last states and the best one, each verified before it is used."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from ugs_jax.runs.checksums import checksum_file, find_damage, note_checksums
from ugs_jax.runs.host_state import gather_state, host_shapes, spread_state
from ugs_jax.runs.processes import in_first_process
from ugs_jax.runs.state import TrainState

_logger = logging.getLogger(__name__)
KEPT = {"last": 2, "best": 1}
"""How many of each kind are kept."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: the training state, EMA, optimizer and stabilizers included.
      notes: what the host knew beside it; JSON values.
    """

    state: TrainState
    notes: dict[str, Any]


class Checkpoints:
    """`last` and `best` under a folder of the first process, which alone writes and reads them, in the background.

    A half-written checkpoint is never read: Orbax renames a finished one into place. The checksums of its files are
    written before that, under `checksums`; a checkpoint whose files no longer have them is moved to `damaged` with a
    warning, and the one before is used.

    With several processes, all have to make one, and to call `save`, `restore`, `step` and `wait` together; where the
    first process raises an OSError or a FileNotFoundError, the others raise a ValueError.

    Args:
      folder: made where there is none; only the first process looks there.
      write: False to read only: nothing is made, moved or deleted.
    """

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        for name in ("absl", "orbax"):
            logging.getLogger(name).setLevel(logging.ERROR)  # Orbax reports every step of a save, and warns of reading
        self._folder, self._write = folder.absolute(), write
        self._managers: dict[str, ocp.CheckpointManager] = {}
        in_first_process(self._open)

    def save(self, step: int, state: TrainState, notes: dict[str, Any], *, best: bool) -> None:
        """Save as `last`, and as `best` too if it is; returns before the files are written.

        A step that is saved already stays as it is: a run resumed from there has only come by again. A new `last` is
        begun when the `best` before it is whole, so that of `best` only one as new as `last` can be missing.

        Raises:
          OSError: this or the save before it could not be written, for want of space or permission.
        """
        copy = gather_state(state)
        in_first_process(lambda: self._save(step, copy, notes, best=best))

    def restore(self, which: str, like: TrainState) -> Checkpoint:
        """Read `last` or `best` into the shapes, types and shardings of `like`, on however many devices it was saved.

        Raises:
          ValueError: neither `last` nor `best`, or no checkpoint that is whole.
          FileNotFoundError: no such checkpoint.
        """
        if which not in KEPT:
            raise ValueError(f"expected a checkpoint among {', '.join(KEPT)}; got {which!r}")
        found: list[TrainState] = []

        def read() -> dict[str, Any]:
            checkpoint = self._read(which, like)
            found.append(checkpoint.state)
            return checkpoint.notes

        notes = in_first_process(read)
        return Checkpoint(spread_state(found[0] if found else None, like), notes)

    def step(self, which: str) -> int | None:
        """Step of the newest checkpoint, or None."""
        step: int | None = in_first_process(lambda: self._managers[which].latest_step())
        return step

    def wait(self) -> None:
        """Wait for the files to be written.

        Raises:
          OSError: they could not be.
        """
        in_first_process(self._wait)

    def close(self) -> None:
        """Wait for the files to be written, and end the threads that do it; each process on its own.

        Raises:
          OSError: they could not be.
        """
        try:
            self._wait()
        finally:
            for manager in self._managers.values():
                manager.close()

    def _open(self) -> None:
        with self._explained("made"):
            self._managers = {name: self._manager(name) for name in KEPT}

    def _manager(self, name: str) -> ocp.CheckpointManager:
        # With one active process, Orbax waits for no other.
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix=name)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT[name] if self._write else None,
            create=False,
            read_only=not self._write,
            cleanup_tmp_directories=self._write,
            async_options=ocp.AsyncOptions(post_finalization_callback=lambda: self._note_checksums(name)),
            multiprocessing_options=alone,
        )
        if self._write:
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(self._folder / name, options=options)

    def _save(self, step: int, state: TrainState | None, notes: dict[str, Any], *, best: bool) -> None:
        with self._explained("saved"):
            self._managers["best"].wait_until_finished()
        for name, manager in self._managers.items():
            if (name == "last" or best) and step not in manager.all_steps():
                with self._explained("saved"):
                    items = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes))
                    manager.save(step, args=items, force=True)

    def _wait(self) -> None:
        for manager in self._managers.values():
            with self._explained("saved"):
                manager.wait_until_finished()

    def _read(self, which: str, like: TrainState) -> Checkpoint:
        steps = sorted(self._managers[which].all_steps(), reverse=True)
        if not steps:
            raise FileNotFoundError(f"{self._folder / which}: expected a checkpoint, found none; train the run first")
        damaged: list[tuple[int, str]] = []
        for step in steps:
            damage = find_damage(self._folder, which, step)
            if not damage:
                break
            damaged.append((step, damage))
        else:
            listed = "; ".join(f"of {step}, {damage}" for step, damage in damaged)
            raise ValueError(
                f"{self._folder / which}: expected a whole checkpoint, but all are damaged ({listed}). Restore the "
                "files, use the other of last and best, or train anew in another --folder"
            )
        for other, damage in damaged:
            self._set_aside(which, other, damage)
        target = ocp.args.StandardRestore(host_shapes(like))
        items = ocp.args.Composite(state=target, notes=ocp.args.JsonRestore())
        found = self._managers[which].restore(step, args=items)
        return Checkpoint(found["state"], found["notes"])

    def _note_checksums(self, which: str) -> None:
        """Write the checksums of a checkpoint that is complete but for its name, and forget those of deleted ones."""
        places = {place.name.partition(".")[0]: place for place in (self._folder / which).iterdir()}
        for step, place in places.items():
            if step.isdigit() and place.name != step:
                note_checksums(place, checksum_file(self._folder, which, step))
        for file in checksum_file(self._folder, which, 0).parent.glob("*.json"):
            if file.stem not in places:
                file.unlink()

    def _set_aside(self, which: str, step: int, damage: str) -> None:
        place, aside = self._folder / which / str(step), self._folder / "damaged" / f"{which}-{step}"
        if self._write:
            self._move(which, step, aside)
            self._managers[which].reload()
        moved = f"; moved to {aside}" if self._write else ""
        _logger.warning("%s: expected a whole checkpoint, but %s%s. The one before it is used.", place, damage, moved)

    def _move(self, which: str, step: int, aside: Path) -> None:
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        (self._folder / which / str(step)).rename(aside)
        checksum_file(self._folder, which, step).unlink(missing_ok=True)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Errors of the file system, of which Orbax and TensorStore have many kinds, as one that says what to do."""
        try:
            yield
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            raise OSError(
                f"{self._folder}: expected to be able to write, but no checkpoint could be {done}: "
                f"{_first_line(error)}. Make room or give write permission, then go on with --resume; what was saved "
                "before is as it was"
            ) from error


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__)
