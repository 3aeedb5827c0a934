"""Progress of a run: a live bar in a terminal, or a plain line every minute elsewhere. Only one process prints."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import jax

_PERIOD = 60.0
"""Minimum time between two plain lines without an evaluation, seconds."""


class Progress:
    """Context manager that shows the progress of a run: step, images/s, loss, AP and time left.

    Args:
      name: Name of the run.
      start: Number of steps that are done at the start.
      total: Number of the last step.
      batch_size: Images per step.
      clock: Function that returns the time in seconds; a parameter for the tests.
    """

    def __init__(
        self, name: str, start: int, total: int, batch_size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console

        console = Console()
        self._shown: _Bar | _Lines = (
            _Bar(name, start, total, batch_size)
            if console.is_terminal or console.is_jupyter
            else _Lines(name, start, total, batch_size, clock)
        )
        self._loss, self._scores = "", ""

    def __enter__(self) -> "Progress":
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()

    def advance(self, step: int, loss: float) -> None:
        """Report that `step` steps are done."""
        self._loss = f"loss {loss:.3f}"
        self._shown.update(step, [self._loss, self._scores], now=False)

    def score(self, step: int, ap: float | None, ap50: float | None) -> None:
        """Report an evaluation after `step` steps."""
        self._scores = f"AP {_percent(ap)} AP50 {_percent(ap50)}"
        self._shown.update(step, [self._loss, self._scores], now=True)


class _Bar:
    def __init__(self, name: str, start: int, total: int, batch_size: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._batch_size = batch_size
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=10), MofNCompleteColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[status]}"),
            disable=jax.process_index() != 0, refresh_per_second=2,
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=total, completed=start, status="compiling")

    def start(self) -> None:
        self._bar.start()

    def stop(self) -> None:
        self._bar.stop()

    def update(self, step: int, parts: list[str], *, now: bool) -> None:
        self._bar.update(self._task, completed=step)
        speed: Any = self._bar.tasks[0].speed
        rate = f"{speed * self._batch_size:.0f} images/s" if speed else ""
        self._bar.update(self._task, status="  ".join(part for part in (rate, *parts) if part))


class _Lines:
    """Plain output: a line when training starts, a line after every evaluation, and otherwise one line per period."""

    def __init__(self, name: str, start: int, total: int, batch_size: int, clock: Callable[[], float]) -> None:
        self._name, self._total, self._batch_size, self._clock = name, total, batch_size, clock
        self._first: tuple[float, int] | None = None  # time and step at the end of the step that compiles
        self._last = (clock(), start)

    def start(self) -> None:
        self._print(self._last[1], ["compiling"])

    def stop(self) -> None:
        pass

    def update(self, step: int, parts: list[str], *, now: bool) -> None:
        at = self._clock()
        first = self._first is None
        if self._first is None:
            self._first = (at, step)
        if first or now or at - self._last[0] >= _PERIOD:
            self._print(step, [*self._speed(at, step), *parts])
            self._last = (at, step)

    def _speed(self, at: float, step: int) -> list[str]:
        """Return images/s since the last line, and the time left at the mean speed of all steps so far."""
        if self._first is None or step <= self._first[1] or at <= self._first[0]:
            return []
        since, before = max(self._first, self._last)
        rate = f"{(step - before) * self._batch_size / (at - since):.3g} images/s" if step > before else ""
        left = (self._total - step) * (at - self._first[0]) / (step - self._first[1])
        return [rate, f"{_duration(left)} left"]

    def _print(self, step: int, parts: list[str]) -> None:
        if jax.process_index() == 0:
            print(f"{self._name}: " + ", ".join([f"step {step}/{self._total}", *filter(None, parts)]), flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
