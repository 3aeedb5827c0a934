"""The training loop: batches, steps, log, evaluation, checkpoints and report."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline import TrainLoader, prefetch
from data_pipeline.wording import counted
from ugs_jax.detectors import Detector, StartsFromWeights
from ugs_jax.evaluation import CocoScorer, ImageDetections
from ugs_jax.experiment.class_weights import with_class_weights
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import fitted_detector
from ugs_jax.experiment.serialize import to_json
from ugs_jax.objectives import check_objective
from ugs_jax.report import diagnose, read_metrics, write_diagnosis
from ugs_jax.runs.checkpoint import Checkpoints
from ugs_jax.runs.preemption import PreemptedError, Preemption
from ugs_jax.runs.processes import in_first_process, is_first_process
from ugs_jax.runs.remote.mirror import Mirror
from ugs_jax.runs.remote.place import claimed_run
from ugs_jax.runs.run_folder import RunFolder
from ugs_jax.runs.setup import agreed_fit, open_splits
from ugs_jax.runs.sharding import (
    batch_sharding,
    check_sizes,
    data_share,
    device_mesh,
    replicated,
)
from ugs_jax.runs.state import NO_BAD_STEP, Metrics, TrainState, create_state
from ugs_jax.runs.versions import other_versions, versions
from ugs_jax.training.evaluate import evaluate, jit_detect
from ugs_jax.training.finish import finish_run
from ugs_jax.training.loggers import Loggers, RunLogger, RunStart
from ugs_jax.training.non_finite import NonFiniteError, attempt, first_bad_tensor, name_images, write_batch
from ugs_jax.training.pretrained import read_for_all, start_from, start_width
from ugs_jax.training.profiling import Profiler
from ugs_jax.training.progress import Progress
from ugs_jax.training.score_history import ScoreHistory
from ugs_jax.training.step import build_program
from ugs_jax.training.stopwatch import Stopwatch
from ugs_jax.training.unknown import MAY_BE_UNKNOWN
from ugs_jax.weights import Weights

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Result of a run.

    Attributes:
      best: Scores of the evaluation with the highest AP.
      last: Scores of the final evaluation.
      state: Final training state.
    """

    best: dict[str, float | None]
    last: dict[str, float | None]
    state: TrainState


def train(
    experiment: Experiment,
    folder: Path | str,
    *,
    resume: bool = False,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    command: str | None = None,
    profile: bool = False,
    loggers: Sequence[RunLogger] = (),
) -> Result:
    """Train an experiment, write its run folder, and write a report at the end.

    Args:
      experiment: Experiment to train.
      folder: Run folder that the first process writes: a local folder, or a URL that fsspec supports, such as
        `gs://bucket/run`. For a URL, the run is written to a folder in the cache and copied in the background.
      resume: Continue the run in `folder` from its last checkpoint. The parameters then equal those of a run without
        interruption.
      cache_dir: Folder for built data sets; None for the default folder.
      stop_after: Total number of steps after which the run ends, with a checkpoint but without a report; None for all.
      command: Command that the report shows; the current command line by default.
      profile: Record ten steps into `profile` in the run folder; see `Profiler`.
      loggers: Loggers that get the values of the run, beside its own log.

    Returns:
      Best and last scores, and the final state.

    Raises:
      NonFiniteError: A loss or a gradient is not finite. The batch is saved beside the run, and the last good state is
        saved as its checkpoint.
      PreemptedError: A SIGTERM or a Ctrl-C stopped the run; the state is saved. A second Ctrl-C raises
        KeyboardInterrupt.
      FileExistsError, ValueError, BlockingIOError: The folder cannot be used; see `claimed_run`. ValueError also for
        weights that do not fit the network.
      LoggerError: A logger cannot be used or started.
      FileNotFoundError: The file of weights does not exist.
      OSError: The folder cannot be written, or the URL cannot be reached. Earlier checkpoints stay complete.
      FencedError: Another run has claimed the URL.
    """
    command_line = command or " ".join(["ugs", *sys.argv[1:]])
    with (
        claimed_run(folder, experiment, resume=resume) as (run, mirror),
        closing(_Training(experiment, run, mirror, cache_dir)) as training,
        Preemption() as preemption,
        training.told(loggers, str(folder)),
    ):
        training.read_weights()
        data = training.train_data
        in_first_process(
            lambda: run.begin(
                experiment,
                command_line,
                training.fitted,
                data.classes,
                category_ids=data.category_ids,
                resume=resume,
            )
        )
        return training.run(stop_after, preemption, profile)


class _Training:
    def __init__(self, experiment: Experiment, run: RunFolder, mirror: Mirror | None, cache_dir: Path | None) -> None:
        self.experiment, self.folder, self.mirror = experiment, run, mirror
        check_objective(experiment.localization)
        self.mesh = device_mesh(spatial=experiment.parallel.spatial)
        check_sizes(experiment.loader, self.mesh, experiment.accumulate)
        self.train_data, self.val_data = open_splits(experiment.data, cache_dir, strict=experiment.loader.strict)
        self.options = replace(experiment.loader, seed=experiment.seed)
        self.file_names = self.train_data.file_names
        self.loader = TrainLoader(self.train_data, self.options, *data_share(self.mesh))
        self.fitted = agreed_fit(experiment, run, self.train_data)
        self.detector = fitted_detector(experiment, self.fitted, len(self.train_data.classes))
        self.total = experiment.epochs * self.loader.steps_per_epoch
        self.weighted = with_class_weights(experiment, self.train_data)
        self.program = build_program(self.weighted, self.detector, self.mesh, self.loader.steps_per_epoch)
        self.detect = jit_detect(self.detector, experiment.postprocess, self.mesh)
        self.scorer = CocoScorer(self.val_data)
        self.stopwatch = Stopwatch(self.options.batch_size)
        self.compiled: set[tuple[tuple[int, ...], ...]] = set()  # shapes of the batches so far
        self.checkpoints = Checkpoints(run.checkpoints)
        self.pretrained: Weights | None = None
        self.pending: list[Any] = []  # metrics of every step since the last row of the log
        self.scores = ScoreHistory(experiment)
        self.complete = False

    def close(self) -> None:
        self.checkpoints.close()

    @contextmanager
    def told(self, loggers: Sequence[RunLogger], folder: str) -> Iterator[None]:
        """Start the loggers, and finish them at the end of the context."""
        step = self.checkpoints.step("last") or 0
        start = RunStart(self.experiment.name, self.experiment.seed, folder, step, to_json(self.experiment))
        self.loggers = Loggers(loggers if is_first_process() else ())
        in_first_process(lambda: self.loggers.start(start))
        try:
            yield
        finally:
            self.loggers.finish(self.scores.best, complete=self.complete)

    def read_weights(self) -> None:
        """Read the weights of the config if the run has no checkpoint. Call this before the run folder is begun."""
        network, detector = self.experiment.network, self.detector
        file = network.weights if isinstance(network, StartsFromWeights) else None
        if file is not None and isinstance(detector, Detector) and self.checkpoints.step("last") is None:
            self.pretrained = read_for_all(file, detector)

    def run(self, stop_after: int | None, preemption: Preemption, profile: bool) -> Result:
        fresh = create_state(self.detector, self.program.optimizer, self.experiment.seed, self.experiment.freeze)
        if self.pretrained is not None and isinstance(self.detector, Detector):
            # All processes use the same images, so that all start with the same weights.
            sample = partial(TrainLoader(self.train_data, self.options).batch_at, 0)
            width = start_width(
                self.pretrained, self.detector, fresh, sample, self.experiment.loss_weights.anchor_ratio_threshold
            )
            fresh = start_from(self.pretrained, fresh, self.detector, self.folder.path, width)
        state = jax.device_put(fresh, self.program.shardings)
        if self.checkpoints.step("last") is not None:
            state, notes = self.checkpoints.restore("last", state)
            self.pending = notes["pending"]
            if other := other_versions(notes["versions"]):
                _logger.warning("%s: %s; results may be rounded differently from here on", self.folder.path, other)
        start = int(state.step)
        in_first_process(lambda: self.folder.cut_metrics(start))
        in_first_process(
            lambda: self.folder.note_end(self.experiment, start, round(start / self.loader.steps_per_epoch, 4))
        )
        self._recall_scores()
        if start and self.scores.best_step == start != self.checkpoints.step("best"):  # killed between last and best
            self._save(start, state, best=True)
        end = min(self.total, stop_after) if stop_after is not None else self.total
        if self.scores.out_of_patience:
            end = start
        self.profiler = Profiler(self.folder.path / "profile" if profile else None, start)
        self.progress = Progress(self.experiment.name, start, self.total, self.options.batch_size)
        with self.progress, closing(self.profiler):
            state = self._steps(state, start, end, preemption)
        if self.scores.out_of_patience and is_first_process():
            print(self.scores.early_end(int(state.step), self.loader.steps_per_epoch), flush=True)
        if end == self.total or self.scores.out_of_patience:
            self._report(state)
        self.checkpoints.wait()
        self.complete = end == self.total or self.scores.out_of_patience
        return Result(self.scores.best, self.scores.last, state)

    def _steps(self, state: TrainState, start: int, end: int, preemption: Preemption) -> TrainState:
        batches = prefetch(self.loader.batches(start), batch_sharding(self.mesh))
        with closing(batches):
            for count in range(start + 1, end + 1):
                self.profiler.before(count)
                with self.stopwatch.waiting():
                    batch = next(batches)
                state, metrics = self.program.step(state, batch)
                self.profiler.after(count, metrics)
                self.pending.append(metrics)
                self._time(metrics, (batch.images.shape, batch.boxes.shape))
                # Rows end at the same steps in interrupted and uninterrupted runs.
                evaluating = self._evaluates(count)
                if evaluating or count % self.experiment.log_every == 0:
                    self._log(count, state)
                    if evaluating:
                        self._evaluate(count, state)
                    self.stopwatch.start()
                stopping = preemption.stops_here()
                if not evaluating and (stopping or count == end or self._saves(count)):
                    self._save(count, state)
                if self.scores.out_of_patience:
                    break
                if stopping and count != self.total:
                    self.checkpoints.wait()
                    raise PreemptedError(
                        f"{self.folder.path}: asked to stop, and stopped after step {count} of {self.total}; continue "
                        "with --resume",
                        preemption.exit_status,
                    )
        return state

    def _time(self, metrics: Metrics, shapes: tuple[tuple[int, ...], ...]) -> None:
        if shapes in self.compiled:
            self.stopwatch.count()
        else:
            self.compiled.add(shapes)
            jax.block_until_ready(metrics)  # the first step of these shapes, which compiles, is over
            self.stopwatch.start()

    def _evaluates(self, count: int) -> bool:
        epoch, rest = divmod(count, self.loader.steps_per_epoch)
        return rest == 0 and (epoch % self.experiment.evaluate_every == 0 or count == self.total)

    def _saves(self, count: int) -> bool:
        every = self.experiment.save_every
        return every is not None and count % every == 0

    def _log(self, count: int, state: TrainState) -> None:
        """Wait for the steps since the last row, stop if one was bad, and write the means of their metrics."""
        rows = self._pending_rows(count, state)
        self.pending = []
        values: dict[str, Any] = {name: _mean([row[name] for row in rows]) for name in rows[0] if name != "bad_step"}
        values["learning_rate"] = rows[-1]["learning_rate"]
        counts = {"dropped_boxes": self.loader.dropped_boxes, "unreadable_images": self.loader.unreadable}
        timing = self.stopwatch.read() | counts
        if is_first_process():
            epoch = count / self.loader.steps_per_epoch
            self._write("train", count, epoch, values)
            self._write("timing", count, epoch, timing)
        self.progress.advance(count, rows[-1]["loss"])

    def _pending_rows(self, count: int, state: TrainState) -> list[dict[str, float]]:
        """Return the metrics of the steps since the last row, and stop if one was bad."""
        pending: list[dict[str, Any]] = jax.device_get(self.pending)
        rows = [{name: float(value) for name, value in row.items()} for row in pending]
        self._stop_if_bad(rows, count, state)
        return rows

    def _save(self, count: int, state: TrainState, *, best: bool = False) -> None:
        notes = {
            "step": count,
            "loader": {"next_step": count, "seed": self.options.seed, "batch_size": self.options.batch_size},
            "pending": self._pending_rows(count, state),
            "experiment": to_json(self.experiment),
            "versions": versions(),
        }
        self.checkpoints.save(count, state, notes, best=best)
        if self.mirror is not None:
            self.mirror.push(count, best=best)

    def _write(self, kind: str, count: int, epoch: float, values: dict[str, Any]) -> None:
        self.folder.write(kind, count, epoch, values)
        self.loggers.log(kind, count, epoch, values)

    def _evaluate(self, count: int, state: TrainState) -> None:
        found: list[tuple[int, ImageDetections]] | None = [] if is_first_process() else None
        scores = evaluate(
            self.detect, state.ema_params, state.ema_stats, self.val_data, self.options, self.mesh, self.scorer, found
        )
        epoch = count / self.loader.steps_per_epoch
        if is_first_process():
            self._write("eval", count, epoch, scores)
        improved = self.scores.note(count, scores)
        if improved and found is not None:
            images = counted(len(self.val_data), "image")
            measured = f"{images} of {self.val_data.name}/{self.val_data.split}, epoch {epoch:g}"
            write_diagnosis(self.folder.path / "diagnosis_best.json", diagnose(self.val_data, found, measured))
        self.progress.score(count, scores["ap"], scores["ap50"])
        self._save(count, state, best=improved)

    def _recall_scores(self) -> None:
        rows = lambda: read_metrics(self.folder.path).evaluations if self.folder.metrics_file.exists() else ()  # noqa: E731
        for row in in_first_process(rows):
            scores = {name: value for name, value in row.items() if name not in ("kind", "step", "epoch")}
            self.scores.note(row["step"], scores)

    def _stop_if_bad(self, rows: list[dict[str, float]], count: int, state: TrainState) -> None:
        step = int(rows[-1]["bad_step"]) if rows else NO_BAD_STEP
        if step == NO_BAD_STEP:
            return
        # The parameters are those before the bad step. Count from there, so that a resumed run gets the same batch.
        counters = jax.device_put((np.int32(step), np.int32(NO_BAD_STEP)), replicated(self.mesh))
        good = state._replace(step=counters[0], bad_step=counters[1])
        before = step - (count - len(rows))
        bad, self.pending = rows[before], rows[:before]
        # The state is saved first, because the batch can be made again. A failed write must not hide why the run stops.
        saved = attempt(lambda: self._save_and_wait(step, good), "the last good state", "is the run's last checkpoint")
        batch = self.loader.batch_at(step)
        written = attempt(lambda: write_batch(self.folder.path, step, batch), "the batch", "is in {}")
        bad = {name: value for name, value in bad.items() if name not in MAY_BE_UNKNOWN}
        names = [name.replace("_", " ") for name, value in bad.items() if not np.isfinite(value)]
        raise NonFiniteError(
            f"step {step}: expected finite numbers, but got a non-finite {', '.join(names)}; first in "
            f"{first_bad_tensor(self.weighted, self.detector, self.mesh, good, batch)}. Images of the batch: "
            f"{name_images(batch, self.file_names)}; {written}, {saved}. Look for extreme boxes in the batch, or train "
            "again in another folder with a lower learning rate or stronger clipping"
        )

    def _save_and_wait(self, count: int, state: TrainState) -> None:
        self._save(count, state)
        self.checkpoints.wait()

    def _report(self, state: TrainState) -> None:
        finish_run(self.folder.path, self.detect, self._best(state), self.val_data, self.options, self.mesh)

    def _best(self, state: TrainState) -> TrainState:
        """Return the best state, or the last state if the best cannot be read. A finished run must not fail here."""
        if self.checkpoints.step("best") is None:
            return state
        try:
            return self.checkpoints.restore("best", state).state
        except ValueError as error:
            _logger.warning("%s The report shows the last state instead of the best.", error)
            return state


def _mean(values: list[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
