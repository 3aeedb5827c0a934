"""Training runs of the toy detector that compile at once and have given scores, to test everything around training."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from data_pipeline import Batch
from tests.training.toy import toy_detector_with
from ugs_jax.experiment import Experiment, fitting
from ugs_jax.runs import TrainState
from ugs_jax.runs.remote import store as remote_store
from ugs_jax.runs.remote.mirror import Mirror
from ugs_jax.runs.remote.run import whole_there
from ugs_jax.training import loop, step, train


def short_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
    """Compiles at once, and like the real one it makes of all batches so far a state."""
    seen = jnp.mean(batch.images / 255)
    params = jax.tree.map(lambda leaf: leaf * (1 - 0.1 * seen), state.params)
    average = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, state.ema_params, params)
    metrics = {"bad_step": state.bad_step, "learning_rate": jnp.float32(0.01), "loss": seen}
    return state._replace(step=state.step + 1, params=params, ema_params=average), metrics


@contextmanager
def short_runs(
    experiment: Experiment, ap: Mapping[int, float], cache: Path, data: Path
) -> Iterator[Callable[..., loop.Result]]:
    """Gives `train(place, **options)` of the experiment with the AP of each step; tries follow each other at once."""
    compiled: dict[str, Any] = {}
    jit_step, evaluate = step.jit_step, loop._Training._evaluate

    def scored(training: Any, count: int, state: TrainState) -> None:
        patch.setattr(loop, "evaluate", lambda *_: {"ap": ap[count], "ap50": ap[count]})
        evaluate(training, count, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UGS_CACHE", str(cache))
        patch.setattr(fitting, "detector_with", toy_detector_with)
        patch.setattr(loop._Training, "_evaluate", scored)
        patch.setattr(loop, "finish_run", lambda folder, *_: (folder / "report.md").write_text("# Report\n"))
        patch.setattr(step, "make_step", lambda *_, **__: short_step)
        patch.setattr(step, "jit_step", lambda *options: compiled.setdefault("step", jit_step(*options)))
        patch.setattr(remote_store, "PAUSES", (0.0, 0.0))
        yield lambda place, **options: train(experiment, place, cache_dir=data, **options)


def push_and_wait(mirror: Mirror, count: int, *, best: bool, push: Callable[..., None] = Mirror._push) -> None:
    """For `Mirror._push`: uploads each checkpoint before the run goes on."""
    push(mirror, count, best=best)
    while mirror._thread.is_alive():
        whole = whole_there(mirror._remote.names())
        if count in whole["last"] and (not best or count in whole["best"]):
            break
        mirror._thread.join(0.01)
