"""Upright boxes around other annotations: polygons, run lengths and rotated rectangles."""

import math
from typing import Any

import numpy as np


def outline_box(segmentation: Any) -> list[float] | None:
    """Return left, top, right and bottom of a COCO segmentation, px. None if it has no outline.

    Args:
      segmentation: Polygons [[x, y, x, y, …], …], or a dict with `size` [height, width] and `counts`, run lengths as
        text or as numbers.

    Raises:
      ValueError: The segmentation has neither form. The message shows its value.
    """
    if isinstance(segmentation, dict):
        return _box_of_runs(segmentation)
    if not isinstance(segmentation, list):
        raise ValueError(f"expected 'segmentation' to be polygons or run lengths, got {_short(segmentation)}")
    polygons = segmentation if not segmentation or isinstance(segmentation[0], list) else [segmentation]
    points: list[float] = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise ValueError(f"expected polygons as lists x, y, x, y, … of numbers, got {_short(polygon)}")
        points += polygon
    if not points:
        return None
    corners = np.array(points, np.float64).reshape(-1, 2)
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def rotated_box(corners: list[float], degrees: float) -> list[float]:
    """Return the upright box around a box that is rotated about its centre.

    Args:
      corners: Left, top, right and bottom of the unrotated box, px.
      degrees: Rotation angle in either direction, degrees.

    Example:
      >>> [round(side, 6) for side in rotated_box([0.0, 0.0, 4.0, 2.0], 90.0)]
      [1.0, -1.0, 3.0, 3.0]
    """
    left, top, right, bottom = corners
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = right - left, bottom - top
    x, y = (left + right) / 2, (top + bottom) / 2
    across, down = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    return [x - across, y - down, x + across, y + down]


def _box_of_runs(runs: dict[str, Any]) -> list[float] | None:
    """Return the box of run lengths as faster-coco-eval computes it, the same as pycocotools does."""
    from faster_coco_eval.core import mask

    size, counts = runs.get("size"), runs.get("counts")
    sizes = isinstance(size, list) and len(size) == 2 and all(_is_whole(side) and 0 < side < 2**20 for side in size)
    if not sizes or not isinstance(counts, str | list):
        raise ValueError(f"expected run lengths as 'size' [height, width] and 'counts', got {_short(runs)}")
    assert isinstance(size, list)
    height, width = size
    if isinstance(counts, list):
        if not all(_is_whole(count) and count >= 0 for count in counts) or sum(counts) != height * width:
            raise ValueError(f"expected 'counts' with the sum of {height} × {width} px, got {_short(counts)}")
        runs = mask.frPyObjects({"size": size, "counts": counts}, height, width)
    try:
        left, top, across, down = (float(side) for side in mask.toBbox(runs))
    except (RuntimeError, ValueError, TypeError, UnicodeError) as error:
        raise ValueError(f"expected run lengths in COCO's encoding, got {_short(counts)} ({error})") from error
    if left < 0 or top < 0 or left + across > width or top + down > height:
        raise ValueError(f"expected run lengths inside {height} × {width} px, got {_short(counts)}")
    return [left, top, left + across, top + down] if across and down else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
