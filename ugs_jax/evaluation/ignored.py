"""Boxes in ignored regions, by the pixel counts of the official VisDrone toolkit."""

import numpy as np
from jaxtyping import Bool, Float

_SHARE = 0.5


def inside_ignored(
    boxes: Float[np.ndarray, "n 4"], regions: Float[np.ndarray, "r 4"], size: tuple[int, int] | None = None
) -> Bool[np.ndarray, " n"]:
    """Return the mask of boxes with at least half of their pixels in the union of the ignored regions.

    1. The toolkit draws the regions into an image and sums the pixels. Its columns and rows count from 1.
    2. A region covers the columns left … left + width, including both ends: one pixel more than its width.
    3. A box is rounded to whole pixels, halves up. Its columns left + 1 … left + width are counted. The count is
       divided by the whole area of the box, including any part outside the image.

    The union is constant between the edges of the regions. Therefore a table with a cell for each pair of neighbouring
    edges gives the same integers without an image.

    Args:
      boxes: Left, top, width and height, px.
      regions: Ignored regions: left, top, width and height, px.
      size: Height and width of the image, px; None if no box or region reaches beyond it.
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
    """Round to the nearest integer, halves up. `np.round` would round halves to even."""
    return np.floor(values + 0.5)


def _cells(edges: np.ndarray, low: float, high: float) -> slice:
    return slice(int(np.searchsorted(edges, low)), int(np.searchsorted(edges, high)))


def _common_length(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the length [n, cells] that each interval shares with each cell between edges."""
    return np.clip(np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1]), 0.0, None)
