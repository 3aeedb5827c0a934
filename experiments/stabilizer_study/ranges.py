"""What the study calls stable and reached, and how wide a range of learning rates is. NumPy only."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

TAIL = 10
"""The end of a trajectory is its last tenth."""


class Range(NamedTuple):
    """Learning rates low to high, both tried and good, with no bad one tried between them; None if none was good.

    Attributes:
      low: lowest.
      high: highest.
      open_below: low is the lowest rate that was tried, so that the range may go on.
      open_above: high is the highest one.
    """

    low: float | None = None
    high: float | None = None
    open_below: bool = False
    open_above: bool = False

    @property
    def width(self) -> float:
        """The highest over the lowest; 0 if there is none. A single good rate has width 1."""
        return 0.0 if self.low is None or self.high is None else self.high / self.low


def stable(losses: Float[np.ndarray, "time *rest members"]) -> Bool[np.ndarray, "*rest"]:
    """Whether every loss stayed finite and ended below its start.

    Args:
      losses: at the start and then on, one column for every box; the mean over the last tenth counts as the end.

    Returns:
      True only if it holds for all members.
    """
    finite = np.all(np.isfinite(losses), axis=(0, -1))
    held = np.where(np.isfinite(losses), losses, np.inf)
    return finite & np.all(_end(held) < held[0], axis=-1)


def reached(losses: Float[np.ndarray, "time *rest members"], good: Bool[np.ndarray, "time *rest groups"]) -> np.ndarray:
    """Stable, and every group good throughout the last tenth."""
    return stable(losses) & np.all(good[-_tail(len(good)) :], axis=(0, -1))


def first_to_stay(good: Bool[np.ndarray, "time *rest"]) -> np.ndarray:
    """First row from which on all are good; −1 where the last one is not."""
    kept = np.logical_and.accumulate(good[::-1], axis=0)[::-1]
    return np.where(kept[-1], np.argmax(kept, axis=0), -1)


def widest(rates: Float[np.ndarray, "rates"], good: Bool[np.ndarray, "rates"]) -> Range:
    """The longest run of neighbouring rates that are all good; of equally long ones the lowest."""
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
