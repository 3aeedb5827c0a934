"""Error report and saved batch for a loss, a gradient or an update that is not finite."""

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
    """Error for a loss or gradient that is not finite. The message names step, tensor, images and the saved batch."""


def write_batch(folder: Path, step: int, batch: Batch) -> Path:
    """Write a batch as `non_finite_batch_step_N.npz` and return the path. Of several processes, each writes its part.

    Raises:
      OSError: The file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **batch._asdict())
    process = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
    file = folder / f"non_finite_batch_step_{step}{process}.npz"
    write_atomically(file, buffer.getvalue())
    return file


def name_images(batch: Batch, names: tuple[str, ...]) -> str:
    """Return the names of the first images of a batch and the number of the others, without fillers of mosaics."""
    images = [names[index] for index, valid in zip(batch.image_id, batch.valid, strict=True) if valid]
    more = f" and {len(images) - _NAMED} more" if len(images) > _NAMED else ""
    return f"{', '.join(images[:_NAMED])}{more}"


def first_bad_tensor(
    experiment: Experiment, detector: TrainableDetector, mesh: Mesh, state: TrainState, batch: Batch
) -> str:
    """Compute a step again, and return the name of the first tensor that is not finite. All processes must call it.

    Args:
      experiment: Experiment with loss weights and seed.
      detector: Detector in training.
      mesh: Device mesh, from `device_mesh`.
      state: State before the step, with its number.
      batch: Part of the batch that belongs to this process.
    """
    check = make_finite_check(detector, experiment.loss_weights, experiment.seed, experiment.accumulate)
    with closing(prefetch([batch], batch_sharding(mesh), size=1)) as batches:
        return first_non_finite(jax.jit(check, out_shardings=replicated(mesh))(state, next(batches)))


def attempt(act: Callable[[], object], what: str, done: str) -> str:
    """Call a function whose failure must not hide the reason why a run stops; return a sentence about its outcome.

    Args:
      act: Function that writes a file. It may raise OSError, and ValueError in all processes but the first.
      what: Name of the written file, the subject of the sentence.
      done: Predicate of the sentence after a success, in which `{}` becomes the result of `act`.
    """
    try:
        return f"{what} {done.format(act())}"
    except (OSError, ValueError) as error:
        return f"{what} could not be written ({error})"
