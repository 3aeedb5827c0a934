"""Boxes that are not what a file's format says: corners in place of widths, fractions in place of px."""

import numpy as np

from data_pipeline.errors import DataError

_MOST = 0.5
_TOLERANCE = 0.02


def check_units(
    where: str, boxes: np.ndarray, areas: np.ndarray | None = None, sizes: np.ndarray | None = None
) -> None:
    """Refuse boxes of a whole file of which most cannot be x, y, width and height in px.

    Args:
      where: file, for the message.
      boxes: float64 [n, 4], the four numbers of every box as found.
      areas: float64 [n], px², NaN where there is none.
      sizes: float64 [n, 2], width and height of each box's image, px, NaN where unknown.

    Raises:
      DataError: more than half of the boxes lie within the unit square, or are corners by their areas or the size of
        their images.
    """
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if not usable.any():
        return
    known = boxes[usable]
    ends = known[:, :2] + known[:, 2:]
    fractions = ((known[:, :2] >= 0) & (ends <= 1.01)).all(axis=1) & (known % 1 != 0).any(axis=1)
    if fractions.mean() > _MOST:
        raise DataError(
            f"{where}: expected 'bbox' in px, got boxes within 0…1, such as {_shown(known[fractions][0])}: fractions "
            "of the image's width and height. Fix: multiply x and width by its width, y and height by its height."
        )
    as_corners = (known[:, 2:] > known[:, :2]).all(axis=1)
    wrong, why = np.zeros(len(known), bool), ""
    if areas is not None:
        area = areas[usable]
        given = np.isfinite(area) & (area > 0) & (known[:, :2].max(axis=1) > 0)
        of_corners = (known[:, 2:] - known[:, :2]).prod(axis=1)
        wrong = given & as_corners & _near(area, of_corners) & ~_near(area, known[:, 2:].prod(axis=1))
        if given.any() and wrong.sum() > _MOST * given.sum():
            why = "their 'area' is that of corners x0, y0, x1, y1"
    if not why and sizes is not None:
        size = sizes[usable]
        sized = np.isfinite(size).all(axis=1)
        fits = as_corners & (known[:, 2:] <= size + 1).all(axis=1)
        wrong = sized & fits & (ends > size + 1).any(axis=1)
        if wrong.sum() > max(1, _MOST * sized.sum()) and fits[sized].mean() > 0.95:
            why = "most leave their image, and as corners x0, y0, x1, y1 they do not"
    if why:
        raise DataError(
            f"{where}: expected 'bbox' to be x, y, width and height, got boxes such as {_shown(known[wrong][0])}: "
            f"{why}. Fix: write x1 - x0 and y1 - y0 in place of x1 and y1."
        )


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(a - b) <= _TOLERANCE * np.maximum(np.abs(a), np.abs(b)))


def _shown(box: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"
