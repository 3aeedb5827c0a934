"""Orbax checkpoints of a run: the last state and the best one."""

import logging
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from ugs_jax.training.state import TrainState


class Checkpoints:
    """`last` and `best` under a folder; each holds one whole training state, written in the background.

    A half-written checkpoint is never read: Orbax renames a finished one into place.

    Args:
      folder: made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax reports every step of a save
        self._folder = folder.absolute()
        self._managers = {name: self._manager(name) for name in ("last", "best")}

    def save(self, step: int, state: TrainState, *, best: bool) -> None:
        """Save as `last`, and as `best` too if it is; returns before the files are written.

        A step that is saved already stays as it is: a run resumed from there has only come by again.
        """
        for name, manager in self._managers.items():
            if (name == "last" or best) and step not in manager.all_steps():
                manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def restore(self, which: str, like: TrainState) -> TrainState:
        """Read `last` or `best` into the shapes, types and shardings of `like`.

        Raises:
          ValueError: neither `last` nor `best`.
          FileNotFoundError: no such checkpoint.
        """
        if which not in self._managers:
            raise ValueError(f"expected a checkpoint among {', '.join(self._managers)}; got {which!r}")
        manager = self._managers[which]
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"{self._folder / which}: expected a checkpoint, found none; train the run first")
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return manager.restore(step, args=ocp.args.StandardRestore(target))

    def step(self, which: str) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._managers[which].latest_step()

    def close(self) -> None:
        """Wait for the files to be written."""
        for manager in self._managers.values():
            manager.wait_until_finished()
            manager.close()

    def _manager(self, name: str) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
        return ocp.CheckpointManager(self._folder / name, options=options)
