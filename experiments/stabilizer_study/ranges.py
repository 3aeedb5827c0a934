"""Definitions of the study: stable and successful learning rates, and the widest range of them. NumPy only."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

TAIL = 10
"""The end of a trajectory is its last tenth."""


class Range(NamedTuple):
    """Range of learning rates. All rates that were tried from `low` to `high` are good.

    Attributes:
      low: Lowest rate; None if no rate was good.
      high: Highest rate; None if no rate was good.
      open_below: True if `low` is the lowest rate that was tried, so that the range may extend below it.
      open_above: True if `high` is the highest rate that was tried.
    """

    low: float | None = None
    high: float | None = None
    open_below: bool = False
    open_above: bool = False

    @property
    def width(self) -> float:
        """Highest rate over the lowest; 0 if no rate was good. A single good rate has width 1."""
        return 0.0 if self.low is None or self.high is None else self.high / self.low


def stable(losses: Float[np.ndarray, "time *rest members"]) -> Bool[np.ndarray, "*rest"]:
    """Return True where every loss stayed finite and ended below its start.

    Args:
      losses: Losses from the start on, with one column for every member. The end is the mean over the last tenth.

    Returns:
      True where this holds for all members.
    """
    finite = np.all(np.isfinite(losses), axis=(0, -1))
    held = np.where(np.isfinite(losses), losses, np.inf)
    return finite & np.all(_end(held) < held[0], axis=-1)


def reached(losses: Float[np.ndarray, "time *rest members"], good: Bool[np.ndarray, "time *rest groups"]) -> np.ndarray:
    """Return True where the losses are stable and every group is good in all of the last tenth."""
    return stable(losses) & np.all(good[-_tail(len(good)) :], axis=(0, -1))


def first_to_stay(good: Bool[np.ndarray, "time *rest"]) -> np.ndarray:
    """Return the first row from which all rows are good; −1 if the last row is not good."""
    kept = np.logical_and.accumulate(good[::-1], axis=0)[::-1]
    return np.where(kept[-1], np.argmax(kept, axis=0), -1)


def widest(rates: Float[np.ndarray, "rates"], good: Bool[np.ndarray, "rates"]) -> Range:
    """Return the longest range of neighbouring rates that are all good, the lowest among equally long ones."""
    best: tuple[int, int] | None = None
    start = None
    for i in range(len(rates) + 1):
        if i < len(rates) and good[i]:
            start = i if start is None else start
        elif start is not None:
            if best is None or i - start > best[1] - best[0]:
                best = start, i
            start = None
    if best is None:
        return Range()
    first, last = best[0], best[1] - 1
    return Range(float(rates[first]), float(rates[last]), first == 0, last == len(rates) - 1)


def _tail(count: int) -> int:
    return max(count // TAIL, 1)


def _end(values: np.ndarray) -> np.ndarray:
    return np.mean(values[-_tail(len(values)) :], axis=0)
