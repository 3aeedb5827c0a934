"""Reading of the label files of YOLO: one row `class cx cy w h`, or `class x y x y …`, for each object."""

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.cleaning import ZERO_SIDED
from data_pipeline.errors import DataError
from data_pipeline.sources.yolo_yaml import decode

COLUMNS = "label rows with a wrong number of values (dropped)"
NOT_NUMBERS = "label rows with a value that is no finite number (dropped)"
UNKNOWN_CLASS = "label rows with a class that data.yaml does not have (dropped)"
BEYOND = "label rows with coordinates outside 0…1 (dropped)"
REPEATED = "label rows repeated within their file (second dropped)"
POLYGONS = "polygons (the upright box around each is used)"
KEYPOINTS = "label rows with keypoints (only their box is used)"
_SLACK = 0.01
_ROUNDING = 1e-4
"""Share of the image's side by which rounding, as to four decimals, moves a side of a box over the border."""


class Labels(NamedTuple):
    """Content of one label file.

    Attributes:
      boxes: Left, top, right and bottom as shares of the image's width and height, float64 [n, 4].
      classes: Class indices, int32 [n].
      faults: Messages of the rows that were dropped, with file, line and fix.
      summary: Numbers of rows that were dropped or read in a special way, by reason.
    """

    boxes: np.ndarray
    classes: np.ndarray
    faults: tuple[str, ...]
    summary: Counter[str]

    @property
    def rows(self) -> int:
        """Number of rows in the file, with faulty and repeated ones."""
        return len(self.boxes) + len(self.faults) + self.summary[REPEATED]


class _RowError(Exception):
    """A row that cannot be used. Its arguments are the reason for the summary, and the message."""


def read_labels(path: Path, classes: int, keypoint_values: int | None = None) -> Labels | None:
    """Read one label file.

    A faulty row is dropped, named and counted. The other rows of the file are used.

    Args:
      path: Path of the file.
      classes: Number of classes.
      keypoint_values: Number of values after the box in rows with keypoints, or None if the rows have no keypoints.

    Returns:
      The labels, or None if there is no such file.

    Raises:
      DataError: The file cannot be read, or it is not text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{path}: expected a label file, got {error.strerror}. Fix: check its type and permissions."
        ) from error
    found: dict[tuple[float, ...], None] = {}  # keeps the order
    faults: list[str] = []
    summary: Counter[str] = Counter()
    for number, line in enumerate(decode(data, path, "a label file").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = _row(line.split(), classes, keypoint_values, summary)
        except _RowError as fault:
            reason, message = fault.args
            summary[reason] += 1
            faults.append(f"{path}:{number}: {message} Fix: correct or remove the row.")
            continue
        if row in found:
            summary[REPEATED] += 1
        found[row] = None
    rows = np.array(list(found), np.float64).reshape(-1, 5)
    return Labels(rows[:, 1:], rows[:, 0].astype(np.int32), tuple(faults), summary)


def _row(cells: list[str], classes: int, keypoint_values: int | None, summary: Counter[str]) -> tuple[float, ...]:
    """Return class, left, top, right and bottom of a row."""
    keypoints = keypoint_values is not None and len(cells) == 5 + keypoint_values
    polygon = not keypoints and len(cells) >= 7 and len(cells) % 2 == 1
    if not (keypoints or polygon or len(cells) == 5):
        raise _RowError(COLUMNS, _wrong_count(len(cells)))
    values = [_number(cell) for cell in cells[: 5 if keypoints else None]]
    label = values[0]
    if not label.is_integer() or not 0 <= label < classes:
        raise _RowError(
            UNKNOWN_CLASS, f"expected a class from 0 to {classes - 1}, as data.yaml has {classes}, got {cells[0]}."
        )
    for cell, value in zip(cells[1:], values[1:], strict=False):
        if not -_SLACK <= value <= 1 + _SLACK:
            raise _RowError(
                BEYOND, f"expected coordinates from 0 to 1 (px divided by the image's width or height), got {cell}."
            )
    if polygon:
        x, y = values[1::2], values[2::2]
        box = [min(x), min(y), max(x), max(y)]
    else:
        cx, cy, w, h = values[1:]
        box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    if not (box[0] < box[2] and box[1] < box[3]):
        raise _RowError(ZERO_SIDED, f"expected a box with sides above 0, got {' '.join(cells[:7])}.")
    summary.update({POLYGONS: 1} if polygon else {KEYPOINTS: 1} if keypoints else {})
    return (label, *map(_inside, box))


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _RowError(NOT_NUMBERS, f"expected numbers separated by spaces, got {cell[:40]!r}.")
    return value


def _inside(side: float) -> float:
    """Return a side without the small overhang that rounding gives to boxes at the border of their image."""
    nearest = min(max(side, 0.0), 1.0)
    return nearest if abs(side - nearest) <= _ROUNDING else side


def _wrong_count(count: int) -> str:
    expected = "expected `class cx cy w h`, or a polygon `class x y x y x y …`"
    if count == 6:
        return f"{expected}, got 6 values, as in predictions with a confidence, which are no labels."
    if count > 6:
        return f"{expected}, got {count} values, as in labels with keypoints; these need `kpt_shape` in data.yaml."
    return f"{expected}, got {count} value{'s' * (count != 1)}."
