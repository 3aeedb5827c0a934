"""What is told and kept when a loss, a gradient or an update is not a finite number."""

import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipeline import Batch, prefetch
from ugs_jax.atomic import write_atomically
from ugs_jax.detectors import TrainableDetector
from ugs_jax.experiment.config import Experiment
from ugs_jax.runs.sharding import batch_sharding, replicated
from ugs_jax.runs.state import TrainState
from ugs_jax.training.step import first_non_finite, make_finite_check

_NAMED = 8


class NonFiniteError(FloatingPointError):
    """The loss or its gradient stopped being a number; the message names step, tensor, images and the saved batch."""


def write_batch(folder: Path, step: int, batch: Batch) -> Path:
    """Write a batch as `non_finite_batch_step_N.npz`, of several processes each its part, and return the file.

    Raises:
      OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **batch._asdict())
    process = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
    file = folder / f"non_finite_batch_step_{step}{process}.npz"
    write_atomically(file, buffer.getvalue())
    return file


def name_images(batch: Batch, names: tuple[str, ...]) -> str:
    """The files a batch is made of, the first few by name; those that only fill up a mosaic are not among them."""
    found = [names[index] for index, valid in zip(batch.image_id, batch.valid, strict=True) if valid]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{', '.join(found[:_NAMED])}{more}"


def first_bad_tensor(
    experiment: Experiment, detector: TrainableDetector, mesh: Mesh, state: TrainState, batch: Batch
) -> str:
    """Compute a step again, and name the first tensor that is not finite; all processes have to call this.

    Args:
      experiment: gains and seed.
      detector: what is trained.
      mesh: from `device_mesh`.
      state: before the step, with its number.
      batch: this process's part.
    """
    check = make_finite_check(detector, experiment.loss_weights, experiment.seed, experiment.accumulate)
    with closing(prefetch([batch], batch_sharding(mesh), size=1)) as batches:
        return first_non_finite(jax.jit(check, out_shardings=replicated(mesh))(state, next(batches)))


def attempt(act: Callable[[], object], what: str, done: str) -> str:
    """Do what must not hide why a run stops; returns that it is done, or why it is not.

    Args:
      act: may raise OSError, and ValueError in all processes but the first.
      what: is written by it.
      done: what is said then; `{}` in it becomes what `act` returns.
    """
    try:
        return f"{what} {done.format(act())}"
    except (OSError, ValueError) as error:
        return f"{what} could not be written ({error})"
