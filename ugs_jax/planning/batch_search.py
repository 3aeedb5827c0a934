"""Search for the largest batch that fits. It needs few compilations, because memory is almost linear in the batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ugs_jax.planning.program import Footprint

_RESOLUTION = 1 / 16  # wanted gap between a batch that fits and one that does not, as a share of the batch
_LEAP = 8  # a guess is at most this many times the largest batch that is known to fit


@dataclass(frozen=True)
class Search:
    """Result of a search for the largest batch.

    Attributes:
      largest: Largest batch that was compiled and fits; None if no batch did.
      too_large: Smallest batch that was compiled and does not fit; None if all batches fitted.
      tried: Footprints by batch.
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
    """Search for the largest batch that fits, to a sixteenth of it or until all compilations are used.

    Args:
      footprint_of: Function that compiles the step for a batch and returns its footprint.
      known: Footprints of one or more batches that are known already.
      unit: Unit of the batch. Only multiples of it are tried.
      limit: Device memory that may be used, bytes.
      compiles: Largest number of calls of `footprint_of`.
    """
    tried = dict(known)
    for _ in range(compiles):
        low = max((size for size, footprint in tried.items() if footprint.fits), default=0)
        high = min((size for size, footprint in tried.items() if not footprint.fits), default=None)
        if high is not None and high - low <= max(unit, _RESOLUTION * low):
            break
        size = _guess(tried, unit, limit, low, high)
        tried[size] = footprint_of(size)
    return Search(
        max((size for size, footprint in tried.items() if footprint.fits), default=None),
        min((size for size, footprint in tried.items() if not footprint.fits), default=None),
        tried,
    )


def _guess(tried: Mapping[int, Footprint], unit: int, limit: int, low: int, high: int | None) -> int:
    points = [(size, footprint.peak) for size, footprint in tried.items() if footprint.peak is not None]
    if len(points) >= 2:
        (size, peak), (other_size, other_peak) = sorted(points, key=lambda point: abs(point[1] - limit))[:2]
        slope = (other_peak - peak) / (other_size - size)
        guess = size + (limit - peak) / slope if slope > 0 else _LEAP * other_size
    else:
        guess = 2 * low if low else (high or unit) / 2
    if high is not None and not low < guess <= (high if low else 0.75 * high):  # memory is not linear here
        guess = (low + high) / 2
    step = max(unit, int(_RESOLUTION * low) // unit * unit)  # if this step does not fit, the search ends
    most = high - unit if high is not None else max(_LEAP * low, unit)
    return min(max(low + step, int(guess) // unit * unit), most)
