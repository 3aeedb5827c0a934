"""A run that starts from weights of another, or from the published ones."""

import json
from collections.abc import Sequence
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
from ugs_jax.runs.state import TrainState
from ugs_jax.training.matching import match
from ugs_jax.weights import Weights, check_size, fit_weights, read_weights
from ugs_jax.weights.head_start import START_WIDTH, layers_from_regression, regression_layer
from ugs_jax.weights.read import from_safetensors


def read_for_all(file: str, detector: Detector) -> Weights:
    """The weights in a file of the first process, in every process; all have to call this.

    Raises:
      FileNotFoundError: no such file.
      ValueError: see `read_weights`; or another size than the detector's.
    """
    found: list[Weights] = []

    def read() -> None:
        found.append(read_weights(Path(file)))
        check_size(found[0], detector.arch)

    in_first_process(read)
    if jax.process_count() == 1:
        return found[0]
    return from_safetensors(from_first_process(found[0].to_bytes() if found else b""), file)


def start_from(
    weights: Weights, state: TrainState, detector: Detector, folder: Path, width: Sequence[float] = START_WIDTH
) -> TrainState:
    """The state of a fresh run with these weights, which its averages begin with, too.

    The first process prints what was loaded and what was not, and writes it to `weights.json`.

    Args:
      weights: from `read_for_all`.
      state: from `create_state`; the optimizer's part stays as it is, as nothing has been learned yet.
      detector: the network.
      folder: of the run.
      width: Standard deviation of the distributions that localization layers made from published ones start with; see
        `start_width`.
    """
    params, stats, report = fit_weights(weights, detector, state.params, state.stats, width=width)
    if is_first_process():
        print("\n".join(report.lines()))
        write_atomically(folder / "weights.json", json.dumps(asdict(report), indent=1).encode())
    averages = {"ema_params": jax.tree.map(jnp.copy, params), "ema_stats": jax.tree.map(jnp.copy, stats)}
    return state._replace(params=params, stats=stats, **averages)


def start_width(
    weights: Weights, detector: Detector, state: TrainState, batch: Batch, ratio_limit: float
) -> tuple[float, ...]:
    """Return how far the published regression is off on a batch: the width that made distributions start with.

    It is the root mean square error of (x, y, log w, log h) over the positives of the levels that the weights have a
    layer for, at most 1 each, or `START_WIDTH` where there are none or the objective starts otherwise.

    Args:
      weights: Weights to start from.
      detector: The network.
      state: Fresh state of the run.
      batch: Training images with boxes.
      ratio_limit: Side ratio up to which an anchor may learn a box.
    """
    if not layers_from_regression(weights, detector, state.params, np.asarray(START_WIDTH)):
        return START_WIDTH
    params, stats, _ = fit_weights(weights, detector, state.params, state.stats)
    outputs, _ = jax.jit(lambda images: detector.apply(params, stats, images, train=False))(batch.images)
    errors = []
    for level, one in enumerate(match(outputs, batch, detector.arch, ratio_limit)):
        layer = regression_layer(weights, detector, level)
        if layer is None or layer[0].shape[1] != len(detector.arch.anchors[level]):
            continue
        kernel, bias, sizes = (jnp.asarray(part, jnp.float32) for part in layer)
        raw = localize(Localizer(kernel, bias), one.features())
        theirs = one.anchors._replace(size=jnp.broadcast_to(sizes, one.anchors.size.shape))
        boxes = BoxRegression().decode(raw, theirs)
        error = encode(one.targets, one.anchors) - encode(boxes, one.anchors)
        errors.append(np.asarray(error)[np.asarray(one.positive)])
    found = np.concatenate(errors) if errors else np.zeros((0, 4))
    if not len(found):
        return START_WIDTH
    return tuple(np.minimum(np.sqrt(np.mean(np.square(found), axis=0)), 1.0).tolist())
