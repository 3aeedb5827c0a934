"""The largest batch that fits, with few compilations: memory grows almost along a line in the batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ugs_jax.planning.program import Footprint

_RESOLUTION = 1 / 16  # of the batch, between what fits and what does not
_LEAP = 8  # at most so many times a batch that is known to fit


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
      largest: batch that was compiled and fits; None if none did.
      too_large: smallest batch that was compiled and does not fit; None if all did.
      tried: footprints by batch.
    """

    largest: int | None
    too_large: int | None
    tried: dict[int, Footprint]


def largest_batch(
    footprint_of: Callable[[int], Footprint],
    known: Mapping[int, Footprint],
    unit: int,
    limit: int,
    compiles: int,
) -> Search:
    """Compile at guesses until the largest batch is known to a sixteenth, or the guesses are used up.

    Args:
      footprint_of: compiles for a batch.
      known: at least one batch and what it takes.
      unit: batches are multiples of it.
      limit: bytes of a device that may be filled.
      compiles: how often `footprint_of` may be called.
    """
    tried = dict(known)
    for _ in range(compiles):
        low = max((size for size, found in tried.items() if found.fits), default=0)
        high = min((size for size, found in tried.items() if not found.fits), default=None)
        if high is not None and high - low <= max(unit, _RESOLUTION * low):
            break
        size = _guess(tried, unit, limit, low, high)
        tried[size] = footprint_of(size)
    return Search(
        max((size for size, found in tried.items() if found.fits), default=None),
        min((size for size, found in tried.items() if not found.fits), default=None),
        tried,
    )


def _guess(tried: Mapping[int, Footprint], unit: int, limit: int, low: int, high: int | None) -> int:
    points = [(size, found.peak) for size, found in tried.items() if found.peak is not None]
    if len(points) >= 2:
        (one, below), (two, above) = sorted(points, key=lambda point: abs(point[1] - limit))[:2]
        slope = (above - below) / (two - one)
        guess = one + (limit - below) / slope if slope > 0 else _LEAP * two
    else:
        guess = 2 * low if low else (high or unit) / 2
    if high is not None and not low < guess <= (high if low else 0.75 * high):  # the line is wrong
        guess = (low + high) / 2
    step = max(unit, int(_RESOLUTION * low) // unit * unit)  # if this does not fit, the search is over
    most = high - unit if high is not None else max(_LEAP * low, unit)
    return min(max(low + step, int(guess) // unit * unit), most)
