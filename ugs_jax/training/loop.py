"""The training loop: batches to the device, steps, log, evaluation, checkpoints, report."""

import io
import math
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import Batch, TrainLoader, prefetch
from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation import CocoScorer
from ugs_jax.report import read_metrics
from ugs_jax.training.checkpoint import Checkpoints
from ugs_jax.training.config import Experiment, anchors_for, detector_with
from ugs_jax.training.evaluate import evaluate, jit_detect
from ugs_jax.training.finish import finish_run
from ugs_jax.training.progress import Progress
from ugs_jax.training.run_folder import RunFolder
from ugs_jax.training.sharpness import SHARPNESS
from ugs_jax.training.state import NO_BAD_STEP, TrainState, create_state
from ugs_jax.training.step import Metrics, data_mesh, jit_step, make_step
from ugs_jax.training.stopwatch import Stopwatch


class NonFiniteError(FloatingPointError):
    """The loss or its gradient stopped being a number; the message names the step and the saved batch."""


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
      best: the evaluation with the highest AP.
      last: the final evaluation.
      state: the final state.
    """

    best: dict[str, float | None]
    last: dict[str, float | None]
    state: TrainState


def train(
    experiment: Experiment,
    folder: Path,
    *,
    resume: bool = False,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    command: str | None = None,
) -> Result:
    """Train an experiment into a run folder, with a report at the end.

    Args:
      experiment: what to train.
      folder: where everything is written.
      resume: continue the run in `folder` from its last checkpoint; parameters then equal the uninterrupted run's.
      cache_dir: where built data sets are kept; None for the usual place.
      stop_after: end after this many steps in all, with a checkpoint but no report.
      command: said in the report; the present command line by default.

    Raises:
      NonFiniteError: a loss or gradient that is not finite; the batch is saved beside the run, the last good state
        as its checkpoint.
      FileExistsError, ValueError: see `RunFolder.begin`.
    """
    run = RunFolder(folder)
    run.check(experiment, resume=resume)
    with closing(_Training(experiment, run, cache_dir)) as training:
        run.begin(
            experiment, command or " ".join(["ugs", *sys.argv[1:]]), training.detector.arch.anchors, resume=resume
        )
        return training.run(stop_after)


class _Training:
    def __init__(self, experiment: Experiment, run: RunFolder, cache_dir: Path | None) -> None:
        self.experiment, self.folder = experiment, run
        self.mesh = data_mesh()
        _check_batch_size(experiment.loader.batch_size, self.mesh)
        train_data, self.val_data = (experiment.data.open(split, cache_dir) for split in ("train", "val"))
        self.options = replace(experiment.loader, seed=experiment.seed)
        self.loader = TrainLoader(train_data, self.options, jax.process_index(), jax.process_count())
        anchors = run.read_anchors() if run.begun else anchors_for(experiment, train_data)
        self.detector = detector_with(experiment, anchors, len(train_data.classes))
        self.total = experiment.epochs * self.loader.steps_per_epoch
        learning_rate = experiment.optimizer.schedule.build(self.loader.steps_per_epoch, self.total)
        self.optimizer = experiment.optimizer.build(learning_rate)
        step = make_step(
            self.detector, self.optimizer, learning_rate, experiment.gains, experiment.ema, experiment.log_every
        )
        self.step = jit_step(step, self.mesh)
        self.detect = jit_detect(self.detector, experiment.postprocess, self.mesh)
        self.scorer = CocoScorer(self.val_data)
        self.stopwatch = Stopwatch(self.options.batch_size)
        self.checkpoints = Checkpoints(run.checkpoints)
        self.best: dict[str, float | None] = {}
        self.last: dict[str, float | None] = {}

    def close(self) -> None:
        self.checkpoints.close()
        self.folder.close()

    def run(self, stop_after: int | None) -> Result:
        state = jax.device_put(
            create_state(self.detector, self.optimizer, self.experiment.seed), NamedSharding(self.mesh, P())
        )
        if self.checkpoints.step("last") is not None:
            state = self.checkpoints.restore("last", state)
        start = int(state.step)
        self.folder.cut_metrics(start)
        self._recall_scores()
        end = min(self.total, stop_after) if stop_after is not None else self.total
        with Progress(self.experiment.name, start, self.total, self.options.batch_size) as progress:
            state = self._steps(state, start, end, progress)
        if end == self.total:
            self._report(state)
        return Result(self.best, self.last, state)

    def _steps(self, state: TrainState, start: int, end: int, progress: Progress) -> TrainState:
        pending: list[Metrics] = []
        batches = prefetch(self.loader.batches(start), NamedSharding(self.mesh, P("data")))
        with closing(batches):
            for count in range(start + 1, end + 1):
                with self.stopwatch.waiting():
                    batch = next(batches)
                state, metrics = self.step(state, batch)
                pending.append(metrics)
                self._time(metrics)
                evaluating = self._evaluates(count)
                # Rows end at the same steps whether or not the run was interrupted.
                if count % self.experiment.log_every == 0 or evaluating or count == end:
                    self._log(count, pending, state, progress)
                    pending = []
                    if evaluating:
                        self._evaluate(count, state, progress)
                    elif count == end:
                        self.checkpoints.save(count, state, best=False)
                    self.stopwatch.start()
        return state

    def _time(self, metrics: Metrics) -> None:
        if self.stopwatch.running:
            self.stopwatch.count()
        else:
            jax.block_until_ready(metrics)  # the first step, which compiles, is over
            self.stopwatch.start()

    def _evaluates(self, count: int) -> bool:
        epoch, rest = divmod(count, self.loader.steps_per_epoch)
        return rest == 0 and (epoch % self.experiment.evaluate_every == 0 or count == self.total)

    def _log(self, count: int, pending: list[Metrics], state: TrainState, progress: Progress) -> None:
        """Wait for the steps since the last row, stop if one was bad, and write means of what each step measured."""
        rows: list[dict[str, Any]] = jax.device_get(pending)
        self._stop_if_bad(rows, count, state)
        values: dict[str, Any] = {
            name: _mean([float(row[name]) for row in rows]) for name in rows[0] if name != "bad_step"
        }
        values["learning_rate"] = float(rows[-1]["learning_rate"])
        values |= self.stopwatch.read()
        values["dropped_boxes"] = self.loader.dropped_boxes
        self.folder.write("train", count, count / self.loader.steps_per_epoch, values)
        progress.advance(count, float(rows[-1]["loss"]))

    def _evaluate(self, count: int, state: TrainState, progress: Progress) -> None:
        self.last = evaluate(
            self.detect, state.ema_params, state.ema_stats, self.val_data, self.options, self.mesh, self.scorer
        )
        self.folder.write("eval", count, count / self.loader.steps_per_epoch, self.last)
        improved = not self.best or (self.last["ap"] or 0.0) > (self.best["ap"] or 0.0)
        if improved:
            self.best = self.last
        progress.score(self.last["ap"], self.last["ap50"])
        self.checkpoints.save(count, state, best=improved)

    def _recall_scores(self) -> None:
        if not self.folder.metrics_file.exists():
            return
        for row in read_metrics(self.folder.path).evaluations:
            self.last = {name: value for name, value in row.items() if name not in ("kind", "step", "epoch")}
            if not self.best or (self.last["ap"] or 0.0) > (self.best["ap"] or 0.0):
                self.best = self.last

    def _stop_if_bad(self, rows: list[dict[str, Any]], count: int, state: TrainState) -> None:
        step = int(rows[-1]["bad_step"])
        if step == NO_BAD_STEP:
            return
        row = rows[step - (count - len(rows))]
        names = [n.replace("_", " ") for n, value in row.items() if not np.isfinite(value) and n not in SHARPNESS]
        file = self.folder.path / f"non_finite_batch_step_{step}.npz"
        write_atomically(file, _npz(self.loader.batch_at(step)))
        # Parameters are those before the bad step; count from there, so that a resumed run meets the batch again.
        counters = jax.device_put((np.int32(step), np.int32(NO_BAD_STEP)), NamedSharding(self.mesh, P()))
        self.checkpoints.save(step, state._replace(step=counters[0], bad_step=counters[1]), best=False)
        raise NonFiniteError(
            f"step {step}: expected finite numbers, but got a non-finite {', '.join(names)}. The batch is in {file}, "
            "the last good state is the run's last checkpoint; look for extreme boxes in the batch, or train again in "
            "another folder with a lower learning rate or stronger clipping"
        )

    def _report(self, state: TrainState) -> None:
        best = self.checkpoints.restore("best", state) if self.checkpoints.step("best") is not None else state
        finish_run(self.folder.path, self.detect, best, self.val_data, self.options, self.mesh)


def _mean(values: list[float]) -> float:
    """Of those that are not NaN; NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _check_batch_size(batch_size: int, mesh: Mesh) -> None:
    if batch_size % mesh.size:
        raise ValueError(
            f"loader.batch_size: expected a multiple of the {mesh.size} devices, got {batch_size}; "
            f"try {-(-batch_size // mesh.size) * mesh.size}"
        )


def _npz(batch: Batch) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **batch._asdict())
    return buffer.getvalue()
