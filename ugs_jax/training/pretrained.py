"""A run that starts from weights of another, or from the published ones."""

import json
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp

from ugs_jax.atomic import write_atomically
from ugs_jax.detectors import Detector
from ugs_jax.training.processes import from_first_process, in_first_process, is_first_process
from ugs_jax.training.state import TrainState
from ugs_jax.weights import Weights, check_size, fit_weights, read_weights
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


def start_from(weights: Weights, state: TrainState, detector: Detector, folder: Path) -> TrainState:
    """The state of a fresh run with these weights, which its averages begin with, too.

    The first process prints what was loaded and what was not, and writes it to `weights.json`.

    Args:
      weights: from `read_for_all`.
      state: from `create_state`; the optimizer's part stays as it is, as nothing has been learned yet.
      detector: the network.
      folder: of the run.
    """
    params, stats, report = fit_weights(weights, detector, state.params, state.stats)
    if is_first_process():
        print("\n".join(report.lines()))
        write_atomically(folder / "weights.json", json.dumps(asdict(report), indent=1).encode())
    averages = {"ema_params": jax.tree.map(jnp.copy, params), "ema_stats": jax.tree.map(jnp.copy, stats)}
    return state._replace(params=params, stats=stats, **averages)
