"""Fields of COCO annotations as different programs write them: flags, sizes, areas and boxes."""

import math
from collections import Counter
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.sources.identifiers import whole_number
from data_pipeline.sources.outlines import outline_box, rotated_box

MARKS = frozenset(
    {
        "iscrowd", "is_crowd", "isCrowd", "crowd", "ignore", "ignored", "is_ignored", "isIgnored", "uncertain",
        "difficult", "dontcare", "dont_care", "is_group_of", "isGroupOf", "IsGroupOf", "isgroupof",
    }
)  # fmt: skip
"""Keys by which programs mark an annotation that counts neither as object nor as background."""
FROM_OUTLINE = "annotations without 'bbox' (the box around their 'segmentation' is used)"
ROTATED = "rotated boxes (the upright box around each is used)"
_YES = (True, 1, "1", "true", "True", "yes")
_NO = (False, 0, None, "", "0", "false", "False", "no")


def fields(where: str, entry: Any, *names: str) -> list[Any]:
    """Return the values of required keys.

    Raises:
      DataError: A key is missing, or the entry is not a JSON object.
    """
    missing = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise DataError(f"{where}: expected the keys {', '.join(names)}, got none named {missing[0]!r}. Fix: add it.")
    return [entry[name] for name in names]


def marks_of(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys by which an annotation is marked as not counting.

    Keys inside `attributes` get the prefix `attributes.`.

    Raises:
      DataError: Such a key has a value that means neither yes nor no.
    """
    marks = []
    for key in sorted(MARKS & entry.keys()):
        value = entry[key]
        if not _is_flag(value):
            raise DataError(f"{where}: expected {key!r} to be 0 or 1, got {short(value)}. Fix: correct it.")
        if value in _YES:
            marks.append(key)
    attributes = entry.get("attributes")
    if isinstance(attributes, dict):
        marks += [
            f"attributes.{key}"
            for key in sorted(MARKS & attributes.keys())
            if _is_flag(attributes[key]) and attributes[key] in _YES
        ]
    return tuple(marks)


def side(where: str, entry: dict[str, Any], name: str) -> int | None:
    """Return the width or height of an image, px. None if it is unknown, that is missing, null or 0.

    Raises:
      DataError: The value is not a whole number of px.
    """
    value = entry.get(name)
    number = 0 if value is None else whole_number(value)
    if number is None or not 0 <= number < 2**31:
        raise DataError(
            f"{where}: expected {name!r} to be a whole number of px, got {short(value)}. "
            "Fix: correct it, or leave 'width' and 'height' out to take them from the image."
        )
    return number or None


def area(entry: dict[str, Any]) -> float | None:
    """Return the area of an annotation, px². None if the file has no finite number for it."""
    value = entry.get("area")
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if usable and value is not None else None


def corners(where: str, entry: dict[str, Any], summary: Counter[str]) -> list[float]:
    """Return left, top, right and bottom of an annotation, px.

    They come from `bbox`, or from `segmentation` if `bbox` is missing. A box that its attributes rotate is replaced by
    the upright box around it. A missing number (null) becomes NaN; the box is dropped and counted later.

    Raises:
      DataError: The annotation has neither a box of four numbers nor an outline.
    """
    bbox, outline = entry.get("bbox"), entry.get("segmentation")
    if outline and (bbox is None or bbox == []):
        return _from_outline(where, outline, summary)
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(value is None or _is_number(value) for value in bbox):
        raise DataError(
            f"{where}: expected 'bbox' to be four numbers (x, y, width and height in px), got {short(bbox)}. "
            "Fix: correct it."
        )
    x, y, width, height = (np.nan if value is None else float(value) for value in bbox)
    box = [x, y, x + width, y + height]
    degrees = _rotation(entry)
    if degrees:
        summary[ROTATED] += 1
        return rotated_box(box, degrees)
    return box


def short(value: Any) -> str:
    """Return the text of a value for messages, at most 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}…"


def _from_outline(where: str, outline: Any, summary: Counter[str]) -> list[float]:
    try:
        box = outline_box(outline)
    except ValueError as error:
        raise DataError(f"{where}: {error}. Fix: correct it, or add a 'bbox'.") from error
    summary[FROM_OUTLINE] += 1
    return [np.nan] * 4 if box is None else box


def _rotation(entry: dict[str, Any]) -> float:
    """Return the rotation of a box, degrees. CVAT writes it into the attributes, and `bbox` is the unrotated box."""
    attributes = entry.get("attributes")
    value = attributes.get("rotation") if isinstance(attributes, dict) else entry.get("rotation")
    if not isinstance(value, int | float) or not _is_number(value) or not math.isfinite(value):
        return 0.0
    return float(value) % 180


def _is_flag(value: Any) -> bool:
    return not isinstance(value, dict | list) and (value in _YES or value in _NO)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 10**300
