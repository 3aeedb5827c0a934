"""Cleaning of boxes: invalid boxes are dropped, boxes that leave their image are clipped, and both are noted."""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.faults import note

_logger = logging.getLogger(__name__)
UNREADABLE = "images that cannot be read (no use in training, their objects missed in an evaluation)"
NOT_FINITE = "boxes with a NaN or infinite coordinate (dropped)"
ZERO_SIDED = "boxes with a side of zero or less (dropped)"
OUTSIDE = "boxes wholly outside their image (dropped)"
CLIPPED = "boxes partly outside their image (clipped)"
REPEATED_REGIONS = "ignore regions repeated within their image (dropped)"
_ROUNDING = 0.05  # px; a smaller overhang comes from rounding, is clipped, and is no fault


def clean_boxes(
    boxes: np.ndarray,
    height: int,
    width: int,
    summary: Counter[str],
    places: Sequence[tuple[str, str]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Drop invalid boxes, clip the others to their image, and count both by reason.

    Args:
      boxes: Boxes with any values, float64 [n, 4] xyxy px.
      height: Height of the image, px.
      width: Width of the image, px.
      summary: Counter to which the numbers are added. `faults.Faults` also lists the places.
      places: Image and place of every box, as in `faults.Fault`. None if they are unknown.

    Returns:
      The remaining boxes, float32 [m, 4] inside the image with positive sides, and their indices, int [m].
    """
    finite = np.isfinite(boxes).all(1)
    solid = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    limits = np.array([width, height, width, height], np.float64)
    clipped = np.clip(np.where(finite[:, None], boxes, 0.0), 0.0, limits).astype(np.float32)
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    kept = solid & inside
    found = {
        NOT_FINITE: ~finite,
        ZERO_SIDED: finite & ~solid,
        OUTSIDE: solid & ~inside,
        CLIPPED: kept & ((boxes < -_ROUNDING) | (boxes > limits + _ROUNDING)).any(1),
    }
    for reason, rows in found.items():
        note(summary, reason, [("", "") if places is None else places[row] for row in np.flatnonzero(rows).tolist()])
    return clipped[kept], np.flatnonzero(kept)


def clean_regions(
    regions: np.ndarray,
    height: int,
    width: int,
    summary: Counter[str],
    places: Sequence[tuple[str, str]] | None = None,
) -> np.ndarray:
    """Clean ignore regions in the same way as `clean_boxes` does, and drop repeated ones; float32 [m, 4]."""
    cleaned, _ = clean_boxes(regions, height, width, summary, places)
    distinct = np.unique(cleaned, axis=0)
    if len(distinct) < len(cleaned):
        summary[REPEATED_REGIONS] += len(cleaned) - len(distinct)
    return distinct


def note_unreadable(error: DataError, corners: np.ndarray, summary: Counter[str], image: str = "") -> tuple[int, int]:
    """Log and count an image that cannot be read, and estimate its size from its annotations.

    Args:
      error: Reason why the image cannot be read.
      corners: Boxes and regions of the image with any values, float64 [n, 4] xyxy px.
      summary: Counter to which the image is added.
      image: File name of the image.

    Returns:
      Smallest height and width, px, that contain all annotations, at least 1.
    """
    _logger.warning("%s It is left out.", error)
    note(summary, UNREADABLE, [(image, str(error))])
    reach = np.where(np.isfinite(corners), corners, 0.0).max(axis=0, initial=1.0)
    width, height = np.ceil(reach[2:]).astype(int).tolist()
    return height, width
