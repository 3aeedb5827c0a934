"""Orbax checkpoints of a run: the last two states and the best one, each verified before it is used."""

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
"""Number of checkpoints that are kept, by kind."""


class Checkpoint(NamedTuple):
    """Contents of a checkpoint.

    Attributes:
      state: Training state, including moving averages, optimizer and stabilizers.
      notes: Other values that the host needs to resume, as JSON values.
    """

    state: TrainState
    notes: dict[str, Any]


class Checkpoints:
    """Checkpoints `last` and `best` in a folder, written in the background. Only the first process accesses the folder.

    An incomplete checkpoint is never read, because Orbax renames a checkpoint into place when it is complete. The
    checksums of its files are written before, in the folder `checksums`. A checkpoint that does not match its checksums
    is moved to the folder `damaged` with a warning, and the one before it is used.

    With several processes, all of them have to create this object and to call `save`, `restore`, `step` and `wait`
    together. If the first process raises an OSError or a FileNotFoundError, the others raise a ValueError.

    Args:
      folder: Folder of the checkpoints, created if it is missing.
      write: False opens the folder for reading only: nothing is created, moved or deleted.
    """

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        for name in ("absl", "orbax"):
            logging.getLogger(name).setLevel(logging.ERROR)  # Orbax logs every step of a save, and warnings on reading
        self._folder, self._write = folder.absolute(), write
        self._managers: dict[str, ocp.CheckpointManager] = {}
        in_first_process(self._open)

    def save(self, step: int, state: TrainState, notes: dict[str, Any], *, best: bool) -> None:
        """Save a state as `last`, and also as `best` if it is the best. Returns before the files are written.

        A step that was saved before is not saved again; this happens when a resumed run passes it a second time. A new
        `last` starts when the `best` before it is complete. After a kill, a `best` can only be missing if it is as new
        as the newest `last`.

        Args:
          step: Step of the state.
          state: Training state.
          notes: Other values that the host needs to resume, as JSON values.
          best: True if this is the best state so far.

        Raises:
          OSError: This save or the one before could not be written, because of missing space or permission.
        """
        copy = gather_state(state)
        in_first_process(lambda: self._save(step, copy, notes, best=best))

    def restore(self, which: str, like: TrainState) -> Checkpoint:
        """Read a checkpoint into the shapes, types and shardings of `like`.

        The number of devices may differ from that of the run that saved it.

        Args:
          which: Kind of the checkpoint, `last` or `best`.
          like: Training state with the wanted shapes, types and shardings.

        Raises:
          ValueError: `which` is neither `last` nor `best`, or all checkpoints of this kind are damaged.
          FileNotFoundError: There is no checkpoint of this kind.
        """
        if which not in KEPT:
            raise ValueError(f"expected a checkpoint among {', '.join(KEPT)}; got {which!r}")
        states: list[TrainState] = []

        def read() -> dict[str, Any]:
            checkpoint = self._read(which, like)
            states.append(checkpoint.state)
            return checkpoint.notes

        notes = in_first_process(read)
        return Checkpoint(spread_state(states[0] if states else None, like), notes)

    def step(self, which: str) -> int | None:
        """Return the step of the newest checkpoint of a kind, or None."""
        step: int | None = in_first_process(lambda: self._managers[which].latest_step())
        return step

    def wait(self) -> None:
        """Wait until all files are written.

        Raises:
          OSError: The files could not be written.
        """
        in_first_process(self._wait)

    def close(self) -> None:
        """Wait until all files are written, and end the writing threads. Each process may call this on its own.

        Raises:
          OSError: The files could not be written.
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
        # With a single active process, Orbax does not wait for the other processes.
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
                "files, use the other of last and best, or train again in another --folder"
            )
        for other, damage in damaged:
            self._set_aside(which, other, damage)
        target = ocp.args.StandardRestore(host_shapes(like))
        items = ocp.args.Composite(state=target, notes=ocp.args.JsonRestore())
        restored = self._managers[which].restore(step, args=items)
        return Checkpoint(restored["state"], restored["notes"])

    def _note_checksums(self, which: str) -> None:
        """Write the checksums of checkpoints that still have their temporary name, and delete those of deleted ones."""
        checkpoints = {path.name.partition(".")[0]: path for path in (self._folder / which).iterdir()}
        for step, path in checkpoints.items():
            if step.isdigit() and path.name != step:
                note_checksums(path, checksum_file(self._folder, which, step))
        for file in checksum_file(self._folder, which, 0).parent.glob("*.json"):
            if file.stem not in checkpoints:
                file.unlink()

    def _set_aside(self, which: str, step: int, damage: str) -> None:
        checkpoint, aside = self._folder / which / str(step), self._folder / "damaged" / f"{which}-{step}"
        if self._write:
            self._move(which, step, aside)
            self._managers[which].reload()
        moved = f"; moved to {aside}" if self._write else ""
        _logger.warning(
            "%s: expected a whole checkpoint, but %s%s. The one before it is used.", checkpoint, damage, moved
        )

    def _move(self, which: str, step: int, aside: Path) -> None:
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        (self._folder / which / str(step)).rename(aside)
        checksum_file(self._folder, which, step).unlink(missing_ok=True)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Raise one kind of OSError, with a remedy, for the many errors of Orbax and TensorStore on file systems."""
        try:
            yield
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            raise OSError(
                f"{self._folder}: expected to be able to write, but no checkpoint could be {done}: "
                f"{_first_line(error)}. Make room or give write permission, then continue with --resume; earlier "
                "checkpoints are unchanged"
            ) from error


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__)
