"""A live progress bar with rate, time left, loss and AP; silent on all processes but the first."""

from types import TracebackType
from typing import Any

import jax


class Progress:
    """Context manager around a run.

    Args:
      name: of the run.
      start: first step.
      total: last step.
      batch_size: images a step.
    """

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
        self._loss, self._scores = "", ""

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, step: int, loss: float) -> None:
        """Report that `step` steps are done."""
        self._loss = f"loss {loss:.3f}"
        self._bar.update(self._task, completed=step)
        self._show()

    def score(self, ap: float | None, ap50: float | None) -> None:
        """Report an evaluation."""
        self._scores = f"AP {_percent(ap)} AP50 {_percent(ap50)}"
        self._show()

    def _show(self) -> None:
        speed: Any = self._bar.tasks[0].speed
        rate = f"{speed * self._batch_size:.0f} images/s" if speed else ""
        self._bar.update(self._task, status="  ".join(part for part in (rate, self._loss, self._scores) if part))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
