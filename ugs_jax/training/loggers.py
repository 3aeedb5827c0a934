"""Loggers of users: objects that a run tells its values, for a service such as Weights & Biases or MLflow."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

_logger = logging.getLogger(__name__)


class LoggerError(ValueError):
    """A logger cannot be used. The message names it."""


class RunStart(NamedTuple):
    """Description of a run for its loggers.

    Attributes:
      name: Name of the experiment.
      seed: Seed of the experiment.
      folder: Folder or URL of the run.
      step: Number of steps that are done: 0 for a new run, the step of the checkpoint for a resumed one.
      config: Experiment as JSON values.
    """

    name: str
    seed: int
    folder: str
    step: int
    config: dict[str, Any]


@runtime_checkable
class RunLogger(Protocol):
    """Receiver of the values of a run. Only the first process calls it, in the thread that trains.

    A subclass inherits a `start` and a `finish` that do nothing. An error in `start` ends the run before its first
    step. An error in `log` or `finish` gives a warning, and the run continues.
    """

    def start(self, run: RunStart, /) -> None:
        """Prepare for a run. This is called once, before anything is written."""

    def log(self, step: int, values: Mapping[str, float], /) -> None:
        """Receive values by name. They are those of the event files.

        Args:
          step: Number of steps that are done. A resumed run reports the steps since its checkpoint again.
          values: Finite values. Names are `train/loss`, `eval/ap`, `timing/images_per_second` and so on, and `epoch`.
        """

    def finish(self, scores: Mapping[str, float | None], complete: bool, /) -> None:
        """End the run. This is also called after an error or a request to stop.

        Args:
          scores: Scores of the best evaluation; empty without an evaluation.
          complete: True if the run has ended as planned, not by an error or a request to stop.
        """


class Loggers:
    """The loggers of a run, whose errors do not end it.

    Args:
      loggers: Loggers.

    Raises:
      LoggerError: An object lacks a method of `RunLogger`.
    """

    def __init__(self, loggers: Sequence[Any]) -> None:
        for logger in loggers:
            missing = [name for name in ("start", "log", "finish") if not callable(getattr(logger, name, None))]
            if missing or isinstance(logger, type):
                found = f"the class {logger.__name__}" if isinstance(logger, type) else f"one without {missing[0]}"
                raise LoggerError(
                    f"{_name(logger)}: expected a logger with start, log and finish, got {found}; make an object of a "
                    "subclass of ugs_jax.training.RunLogger"
                )
        self._loggers = tuple(loggers)
        self._failed: dict[int, int] = {}

    def start(self, run: RunStart) -> None:
        """Start all loggers.

        Raises:
          LoggerError: A logger cannot be started.
        """
        for logger in self._loggers:
            try:
                logger.start(run)
            except Exception as error:
                raise LoggerError(
                    f"{_name(logger)}: expected to start, got {type(error).__name__}: {error}; correct the logger, or "
                    "train without it"
                ) from error

    def log(self, kind: str, step: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Pass the finite values of a row of the log to all loggers.

        Args:
          kind: Kind of the row: `train`, `eval` or `timing`.
          step: Number of steps that are done.
          epoch: Epochs since the start of the run.
          values: Values by name.
        """
        if self._loggers:
            known = {name: float(value) for name, value in values.items() if value is not None}
            finite = {f"{kind}/{name}": value for name, value in known.items() if math.isfinite(value)}
            self._call("log", step, {**finite, "epoch": epoch})

    def finish(self, scores: Mapping[str, float | None], *, complete: bool) -> None:
        """Finish all loggers, and warn of those that have missed values.

        Args:
          scores: Scores of the best evaluation.
          complete: True if the run has ended as planned.
        """
        self._call("finish", dict(scores), complete)
        for index, count in self._failed.items():
            _logger.warning("%s: %d calls failed; metrics.jsonl is whole", _name(self._loggers[index]), count)

    def _call(self, method: str, *arguments: Any) -> None:
        for index, logger in enumerate(self._loggers):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:  # the run continues
                if index not in self._failed:  # the first error of a logger is told at once, the number at the end
                    _logger.warning(
                        "%s.%s: got %s: %s. The run continues",
                        _name(logger), method, type(error).__name__, error, exc_info=error,
                    )  # fmt: skip
                self._failed[index] = self._failed.get(index, 0) + 1


def _name(logger: Any) -> str:
    kind = logger if isinstance(logger, type) else type(logger)
    return f"logger {kind.__module__}:{kind.__qualname__}"
