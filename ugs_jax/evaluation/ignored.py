"""Which boxes lie in ignored regions, as the official VisDrone toolkit counts pixels."""

import numpy as np
from jaxtyping import Bool, Float

_SHARE = 0.5


def inside_ignored(
    boxes: Float[np.ndarray, "n 4"], regions: Float[np.ndarray, "r 4"], size: tuple[int, int] | None = None
) -> Bool[np.ndarray, " n"]:
    """Boxes of which at least half the pixels lie in the union of the ignored regions.

    The toolkit draws the regions into an image and sums it up. Its columns and rows count from 1. A region covers
    left … left + width, both ends included, one pixel more than its width. Of a box, rounded half up to whole pixels,
    the columns left + 1 … left + width are counted, and divided by the whole area, also where it leaves the image.

    The union is constant between the edges of the regions, so counting needs no image: a table with a cell for each
    pair of neighbouring edges gives the same integers.

    Args:
      boxes: left, top, width, height, px.
      regions: likewise.
      size: height and width of the image, px; None where nothing reaches beyond it.
    """
    if not len(regions):
        return np.zeros(len(boxes), bool)
    limits = np.array([np.inf, np.inf] if size is None else [size[1], size[0]], np.float64)
    first = np.maximum(_rounded(regions[:, :2]), 1.0)
    low, high = first - 1.0, np.minimum(first + np.maximum(_rounded(regions[:, 2:]), 1.0), limits)
    columns, rows = (np.unique(np.concatenate([low[:, axis], high[:, axis]])) for axis in (0, 1))
    covered = np.zeros((len(rows) - 1, len(columns) - 1), bool)
    for (left, top), (right, bottom) in zip(low, high, strict=True):
        covered[_cells(rows, top, bottom), _cells(columns, left, right)] = True

    start = np.clip(_rounded(boxes[:, :2]), 1.0, limits)
    sides = np.maximum(_rounded(boxes[:, 2:]), 1.0)
    end = np.minimum(start + sides, limits)
    across = _common_length(start[:, 0], end[:, 0], columns)
    down = _common_length(start[:, 1], end[:, 1], rows)
    pixels = ((down @ covered) * across).sum(axis=1)
    return pixels / sides.prod(axis=1) >= _SHARE


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest integer, halves up: `np.round` would take them to the even one."""
    return np.floor(values + 0.5)


def _cells(edges: np.ndarray, low: float, high: float) -> slice:
    return slice(int(np.searchsorted(edges, low)), int(np.searchsorted(edges, high)))


def _common_length(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Length that each interval [n] shares with each cell between edges: [n, cells]."""
    return np.clip(np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1]), 0.0, None)
