"""Start of a run from the weights of another run, or from published weights."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline import Batch
from ugs_jax.atomic import write_atomically
from ugs_jax.boxes import encode
from ugs_jax.detectors import Detector, Localizer, localize
from ugs_jax.objectives import BoxRegression
from ugs_jax.runs.processes import from_first_process, in_first_process, is_first_process
from ugs_jax.runs.remote.weights_file import local_file
from ugs_jax.runs.state import TrainState
from ugs_jax.training.matching import match
from ugs_jax.weights import Weights, check_size, fit_weights, read_weights
from ugs_jax.weights.head_start import START_WIDTH, layers_from_published, published_layer
from ugs_jax.weights.read import from_safetensors
from ugs_jax.weights.weights import REGRESSION


def read_for_all(file: str, detector: Detector) -> Weights:
    """Read weights in the first process and return them in every process. All processes must call it.

    Args:
      file: Path or URL of the weights.
      detector: Detector that they must suit in size.

    Raises:
      FileNotFoundError: The file does not exist.
      ValueError: `read_weights` refuses the file, or the weights are not of the detector's size.
    """
    weights: list[Weights] = []

    def read() -> None:
        weights.append(read_weights(local_file(file)))
        check_size(weights[0], detector.arch)

    in_first_process(read)
    if jax.process_count() == 1:
        return weights[0]
    return from_safetensors(from_first_process(weights[0].to_bytes() if weights else b""), file)


def start_from(
    weights: Weights, state: TrainState, detector: Detector, folder: Path, width: Sequence[float] = START_WIDTH
) -> TrainState:
    """Return the state of a fresh run with the given weights, in the parameters and in their moving averages.

    The first process prints a report of the loaded arrays, and writes it to `weights.json`.

    Args:
      weights: Weights, from `read_for_all`.
      state: State, from `create_state`. The state of the optimizer is unchanged, since no step has been taken.
      detector: Detector in training.
      folder: Folder of the run.
      width: Standard deviation with which distributions start if their layers are made from published ones; see
        `start_width`.
    """
    params, stats, report = fit_weights(weights, detector, state.params, state.stats, width=width)
    if is_first_process():
        print("\n".join(report.lines()))
        write_atomically(folder / "weights.json", json.dumps(asdict(report), indent=1).encode())
    averages = {"ema_params": jax.tree.map(jnp.copy, params), "ema_stats": jax.tree.map(jnp.copy, stats)}
    return state._replace(params=params, stats=stats, **averages)


def start_width(
    weights: Weights, detector: Detector, state: TrainState, sample: Callable[[], Batch], anchor_ratio_threshold: float
) -> tuple[float, ...]:
    """Return the error of the published regression on a batch: the width with which distributions start.

    It is the root mean square error of (x, y, log w, log h), at most 1 each, over the positives of the levels for which
    the weights have a layer. Without such positives, or if no layer is made from regression, it is `START_WIDTH`.

    Args:
      weights: Weights to start from.
      detector: Detector in training.
      state: Fresh state of the run.
      sample: Function that loads a batch of training images with boxes. It is called only if a layer is made.
      anchor_ratio_threshold: Side ratio up to which an anchor may learn a box.
    """
    made = layers_from_published(weights, detector, state.params, np.asarray(START_WIDTH))
    if weights.decoding != REGRESSION or not made:
        return START_WIDTH
    batch = sample()
    params, stats, _ = fit_weights(weights, detector, state.params, state.stats)
    outputs, _ = jax.jit(lambda images: detector.apply(params, stats, images, train=False))(batch.images)
    errors = []
    for level, matched in enumerate(match(outputs, batch, detector.arch, anchor_ratio_threshold)):
        layer = published_layer(weights, detector, level)
        if layer is None or len(layer.anchors) != len(detector.arch.anchors[level]):
            continue
        kernel, bias, sizes = (jnp.asarray(part, jnp.float32) for part in layer)
        raw = localize(Localizer(kernel, bias), matched.features())
        theirs = matched.anchors._replace(size=jnp.broadcast_to(sizes, matched.anchors.size.shape))
        boxes = BoxRegression().decode(raw, theirs)
        error = encode(matched.targets, matched.anchors) - encode(boxes, matched.anchors)
        errors.append(np.asarray(error)[np.asarray(matched.positive)])
    offsets = np.concatenate(errors) if errors else np.zeros((0, 4))
    if not len(offsets):
        return START_WIDTH
    return tuple(np.minimum(np.sqrt(np.mean(np.square(offsets), axis=0)), 1.0).tolist())
