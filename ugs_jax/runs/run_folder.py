"""Folder of a run: config, metrics, event files, and the places of checkpoints and pictures."""

import errno
import fcntl
import json
import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ugs_jax.atomic import append_whole, write_atomically
from ugs_jax.evaluation import DEFAULT_PROTOCOL
from ugs_jax.evaluation.coco_categories import usual_category_ids
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import Fitted
from ugs_jax.experiment.identity import describe_data, differences
from ugs_jax.experiment.serialize import fitted_from, fitted_to_json, from_json, to_json
from ugs_jax.report import read_rows
from ugs_jax.runs.event_log import EventLog
from ugs_jax.runs.versions import environment, versions

_logger = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""errno values of file systems without locking, such as some network file systems."""


class RunFolder:
    """Files of one run.

    Args:
      path: Run folder. It is created if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events: EventLog | None = None
        self._lock: int | None = None

    @property
    def metrics_file(self) -> Path:
        """Path of `metrics.jsonl`, with one JSON object on each line; its `kind` is `train` or `eval`."""
        return self.path / "metrics.jsonl"

    @property
    def timing_file(self) -> Path:
        """Path of `timing.jsonl`, with the throughput.

        Throughput varies from run to run, so it is kept apart from the bit-reproducible metrics.
        """
        return self.path / "timing.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Path of the folder of checkpoints."""
        return self.path / "checkpoints"

    def check(self, experiment: Experiment, *, resume: bool) -> None:
        """Check that the experiment may be trained in this folder, before any costly work.

        Args:
          experiment: Experiment to be trained.
          resume: Continue an existing run.

        Raises:
          FileExistsError: The folder has a run and `resume` is not set, or it has remains of a run.
          ValueError: The existing run has another config. The message names the fields.
        """
        if not self.begun:
            remains = [path for path in (self.metrics_file, *self.checkpoints.glob("*/[0-9]*")) if path.exists()]
            if remains:
                raise FileExistsError(
                    f"{self.path}: expected no run or a whole one, found {remains[0].name} without a config.json; "
                    "choose another --folder"
                )
            return
        if not resume:
            raise FileExistsError(
                f"{self.path}: expected no run here, found one; continue it with --resume or choose another --folder"
            )
        there = self._read_config().get("experiment")
        there = json.loads(json.dumps(to_json(from_json(there, str(self._config_file)))))  # adds fields that are new
        now = json.loads(json.dumps(to_json(experiment)))
        if found := differences(there, now):
            raise ValueError(
                f"{self._config_file}: expected the config of the run to be resumed, but {'; '.join(found)}. "
                "Use the original settings or another --folder"
            )

    def claim(self, experiment: Experiment, *, resume: bool) -> None:
        """Check and lock the folder; see `check` and `lock`.

        Args:
          experiment: Experiment to be trained.
          resume: Continue the run in the folder. Otherwise the folder must not hold a run.

        Raises:
          FileExistsError, ValueError: See `check`.
          BlockingIOError: See `lock`.
        """
        self.check(experiment, resume=resume)
        self.lock()

    def begin(
        self,
        experiment: Experiment,
        command: str,
        fitted: Fitted,
        classes: tuple[str, ...],
        *,
        category_ids: tuple[int, ...] | None = None,
        resume: bool,
    ) -> None:
        """Create the folder and write `config.json`, or check that the existing one belongs to this experiment.

        Args:
          experiment: Experiment to be trained.
          command: Command that trains it.
          fitted: Fitted anchors and label grids. They are saved so that the run can be used without its data set.
          classes: Class names of the data set.
          category_ids: Identifiers of the classes in the data set, for files of detections.
          resume: Continue an existing run.

        Raises:
          FileExistsError, ValueError: See `check`.
          OSError: The file cannot be written.
        """
        self.check(experiment, resume=resume)
        if self.begun:
            return
        summary = {
            "name": experiment.name,
            "seed": experiment.seed,
            "dataset": describe_data(experiment),
            "classes": list(classes),
            "category_ids": list(usual_category_ids(classes) if category_ids is None else category_ids),
            "image_size": list(experiment.loader.image_size),
            "localization": str(experiment.localization),
            "network": str(experiment.network),
            **fitted_to_json(fitted),
            "epochs": experiment.epochs,
            "batch_size": experiment.loader.batch_size,
            "protocol": DEFAULT_PROTOCOL.describe(),
            "command": command,
            "versions": versions(),
            "environment": environment(),
            "experiment": to_json(experiment),
        }
        with _explained(self._config_file):
            write_atomically(self._config_file, json.dumps(summary, indent=1).encode())

    def note_end(self, experiment: Experiment, step: int, epoch: float) -> None:
        """Bring the planned end of the run, `epochs` and `patience`, up to date in `config.json`.

        A larger number of epochs is also noted in the list `extensions`, for the report.

        Args:
          experiment: Experiment of the resumed run.
          step: Step that the run continues from.
          epoch: Epoch that the run continues from.

        Raises:
          OSError: The file cannot be written.
        """
        config = self._read_config()
        there, now = config["experiment"], {"epochs": experiment.epochs, "patience": experiment.patience}
        if all(there.get(name) == value for name, value in now.items()):
            return
        if there["epochs"] != experiment.epochs:
            extension = {"epochs": there["epochs"], "to_epochs": experiment.epochs, "step": step, "epoch": epoch}
            config["extensions"] = [*config.get("extensions", []), extension]
        config = {**config, "epochs": experiment.epochs, "experiment": {**there, **now}}
        with _explained(self._config_file):
            write_atomically(self._config_file, json.dumps(config, indent=1).encode())

    @property
    def begun(self) -> bool:
        """True if the folder has a run."""
        return self._config_file.exists()

    def read_fitted(self) -> Fitted:
        """Return the fitted anchors and the objective of the run.

        Raises:
          FileNotFoundError: The folder has no run.
          ValueError: The anchors are not positive (w, h) for every level, or the objective cannot be read.
        """
        return fitted_from(self._read_config(), str(self._config_file))

    def read_classes(self) -> tuple[str, ...]:
        """Return the class names of the run.

        Raises:
          FileNotFoundError: The folder has no run.
          ValueError: The config has no class names.
        """
        classes = self._read_config().get("classes")
        if not isinstance(classes, list) or not classes:
            raise ValueError(f'{self._config_file}: expected "classes", a list of names, got {classes!r}')
        return tuple(str(name) for name in classes)

    def read_category_ids(self) -> tuple[int, ...]:
        """Return the category id of each class in the run's data set. Runs of older versions did not store them.

        Their classes get the ids of `usual_category_ids`.

        Raises:
          FileNotFoundError: The folder has no run.
          ValueError: The config has no class names, or its category ids are not a whole number for each class.
        """
        classes, ids = self.read_classes(), self._read_config().get("category_ids")
        if ids is None:
            return usual_category_ids(classes)
        whole = isinstance(ids, list) and all(type(each) is int for each in ids)
        if not whole or len(set(ids)) != len(ids) or len(ids) != len(classes):
            raise ValueError(
                f'{self._config_file}: expected "category_ids", a whole number of its own for each of {len(classes)} '
                f"classes, got {ids!r}; correct the list, or remove it to number the classes from 1"
            )
        return tuple(ids)

    def lock(self) -> None:
        """Prevent other processes from training in this folder, until `close` is called or this process ends.

        Raises:
          BlockingIOError: Another process is training in this folder.
          OSError: The folder cannot be created or written.
        """
        file = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise OSError(
                f"{self.path}: expected a folder that can be written, got: {error.strerror}; choose another --folder, "
                "or change who may write there"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _logger.warning(
                    "%s: expected a file system with locks, got: %s. The run continues without a lock; take care that "
                    "no other run is started in this folder, or choose a --folder on another disk.",
                    self.path, error.strerror,
                )  # fmt: skip
                return
            if not isinstance(error, BlockingIOError):
                raise
            holder = file.read_text() or "of unknown number"
            os.close(self._lock)
            self._lock = None
            raise BlockingIOError(
                f"{self.path}: expected no other run here, but process {holder} is writing to it; wait for it, stop "
                "it, or choose another --folder"
            ) from error
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)

    def cut_metrics(self, step: int) -> None:
        """Delete rows after `step` and an incomplete last row. A resumed run writes them again.

        Raises:
          RunError: Another row is damaged.
          OSError: A file cannot be written. It is then unchanged.
        """
        for file in (self.metrics_file, self.timing_file):
            if file.exists():
                rows = [row for row in read_rows(file) if row["step"] <= step]
                with _explained(file):
                    write_atomically(file, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def write(self, kind: str, step: int, epoch: float, values: dict[str, Any]) -> None:
        """Append a row to the metrics and the event files. Values that are not finite become null.

        Args:
          kind: Kind of the row: `train`, `eval` or `timing`. Rows of kind `timing` go to `timing.jsonl`.
          step: Step of the run.
          epoch: Epochs since the start of the run.
          values: Values by name.

        Raises:
          OSError: A file cannot be written. It then has no incomplete row.
        """
        row = {name: _number(value) for name, value in values.items()}
        file = self.timing_file if kind == "timing" else self.metrics_file
        line = json.dumps({"kind": kind, "step": step, "epoch": round(epoch, 4), **row}) + "\n"
        with _explained(file):
            append_whole(file, line.encode())
        with _explained(self.path / "events.out.tfevents.*"):
            if self._events is None:
                self._events = EventLog(self.path)
            for name, value in row.items():
                if value is not None:
                    self._events.add(f"{kind}/{name}", value, step)
            if kind == "eval":
                self._events.flush()

    def close(self) -> None:
        """Close the event files and release the lock."""
        if self._events is not None:
            try:
                self._events.close()
            except OSError as error:
                _logger.warning(
                    "%s: the event file could not be finished: %s; metrics.jsonl is whole", self.path, error
                )
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _config_file(self) -> Path:
        return self.path / "config.json"

    def _read_config(self) -> dict[str, Any]:
        try:
            config = json.loads(self._config_file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.path}: expected a run folder with a config.json, found none; give what `ugs train` wrote"
            ) from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{self._config_file}:{error.lineno}: expected JSON, got {error.msg}") from error
        if not isinstance(config, dict):
            raise ValueError(f"{self._config_file}: expected a JSON object, got {type(config).__name__}")
        return config


def read_experiment(path: Path) -> Experiment:
    """Return the experiment of a run folder.

    Raises:
      FileNotFoundError: The folder has no run.
      ValueError: This version cannot read the config.
    """
    run = RunFolder(path)
    experiment = from_json(run._read_config().get("experiment"), str(run._config_file))
    if not isinstance(experiment, Experiment):
        raise ValueError(f'{run._config_file}: expected an "experiment", got {type(experiment).__name__}')
    return experiment


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Add a remedy to the error of a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{file}: expected to be able to write, got: {error.strerror or error}. Make room or give write "
            "permission, then continue with --resume; rows written before are unchanged"
        ) from error


def _number(value: Any) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)
