"""Detection of boxes that break a file's format: corners instead of widths, or fractions instead of px."""

import numpy as np

from data_pipeline.errors import DataError

_MOST = 0.5
_TOLERANCE = 0.02


def check_units(
    where: str, boxes: np.ndarray, areas: np.ndarray | None = None, sizes: np.ndarray | None = None
) -> None:
    """Raise an error if most boxes of a file cannot be x, y, width and height in px.

    Args:
      where: File for error messages.
      boxes: The four numbers of every box without changes, float64 [n, 4].
      areas: Area of every box, px², NaN if missing, float64 [n].
      sizes: Width and height of the image of every box, px, NaN if unknown, float64 [n, 2].

    Raises:
      DataError: More than half of the boxes lie within the unit square, or their areas or the sizes of their images
        show that they are corners.
    """
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if not usable.any():
        return
    known = boxes[usable]
    ends = known[:, :2] + known[:, 2:]
    fractions = ((known[:, :2] >= 0) & (ends <= 1.01)).all(axis=1) & (known % 1 != 0).any(axis=1)
    if fractions.mean() > _MOST:
        raise DataError(
            f"{where}: expected 'bbox' in px, got boxes within 0…1, such as {_shown(known[fractions][0])}, which are "
            "fractions of the image's width and height. Fix: multiply x and width by the image's width, y and height "
            "by its height."
        )
    as_corners = (known[:, 2:] > known[:, :2]).all(axis=1)
    wrong, why = np.zeros(len(known), bool), ""
    if areas is not None:
        area = areas[usable]
        given = np.isfinite(area) & (area > 0) & (known[:, :2].max(axis=1) > 0)
        of_corners = (known[:, 2:] - known[:, :2]).prod(axis=1)
        wrong = given & as_corners & _near(area, of_corners) & ~_near(area, known[:, 2:].prod(axis=1))
        if given.any() and wrong.sum() > _MOST * given.sum():
            why = "their 'area' fits corners x0, y0, x1, y1"
    if not why and sizes is not None:
        size = sizes[usable]
        sized = np.isfinite(size).all(axis=1)
        fits = as_corners & (known[:, 2:] <= size + 1).all(axis=1)
        wrong = sized & fits & (ends > size + 1).any(axis=1)
        if wrong.sum() > max(1, _MOST * sized.sum()) and fits[sized].mean() > 0.95:
            why = "most leave their image, but not if they are read as corners x0, y0, x1, y1"
    if why:
        raise DataError(
            f"{where}: expected 'bbox' to be x, y, width and height, got boxes such as {_shown(known[wrong][0])}: "
            f"{why}. Fix: write x1 - x0 and y1 - y0 instead of x1 and y1."
        )


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(a - b) <= _TOLERANCE * np.maximum(np.abs(a), np.abs(b)))


def _shown(box: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"
