"""Makes boxes of unknown quality fit for training: drops what is no box, clips what leaves the image, counts both."""

import logging
from collections import Counter

import numpy as np

from data_pipeline.errors import DataError

_logger = logging.getLogger(__name__)
UNREADABLE = "images that cannot be read (no use in training, their objects missed in an evaluation)"
NOT_FINITE = "boxes with a NaN or infinite coordinate (dropped)"
ZERO_SIDED = "boxes with a side of zero or less (dropped)"
OUTSIDE = "boxes wholly outside their image (dropped)"
CLIPPED = "boxes partly outside their image (clipped)"
REPEATED_REGIONS = "ignore regions repeated within their image (dropped)"


def clean_boxes(boxes: np.ndarray, height: int, width: int, summary: Counter[str]) -> tuple[np.ndarray, np.ndarray]:
    """Drops and clips boxes and counts by reason.

    Args:
      boxes: float64 [n, 4] xyxy px, anything.
      height: of the image, px.
      width: of the image, px.
      summary: to add the counts to.

    Returns:
      The boxes that are left, float32 [m, 4] inside the image with positive sides; their indices, int [m].
    """
    finite = np.isfinite(boxes).all(1)
    solid = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    limits = np.array([width, height, width, height], np.float64)
    clipped = np.clip(np.where(finite[:, None], boxes, 0.0), 0.0, limits).astype(np.float32)
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    kept = solid & inside
    counts = {
        NOT_FINITE: ~finite,
        ZERO_SIDED: finite & ~solid,
        OUTSIDE: solid & ~inside,
        CLIPPED: kept & ((boxes < 0) | (boxes > limits)).any(1),
    }
    summary.update({reason: int(rows.sum()) for reason, rows in counts.items() if rows.any()})
    return clipped[kept], np.flatnonzero(kept)


def clean_regions(regions: np.ndarray, height: int, width: int, summary: Counter[str]) -> np.ndarray:
    """Like `clean_boxes`, for ignore regions, of which repetitions are dropped too; float32 [m, 4]."""
    cleaned, _ = clean_boxes(regions, height, width, summary)
    distinct = np.unique(cleaned, axis=0)
    if len(distinct) < len(cleaned):
        summary[REPEATED_REGIONS] += len(cleaned) - len(distinct)
    return distinct


def note_unreadable(error: DataError, corners: np.ndarray, summary: Counter[str]) -> tuple[int, int]:
    """Names and counts an image that cannot be read, and says how far its annotations reach, in place of its size.

    Args:
      error: why.
      corners: float64 [n, 4] xyxy px of its boxes and regions, anything.
      summary: to add the count to.

    Returns:
      Height and width, px, at least 1.
    """
    _logger.warning("%s It is left out.", error)
    summary[UNREADABLE] += 1
    reach = np.where(np.isfinite(corners), corners, 0.0).max(axis=0, initial=1.0)
    width, height = np.ceil(reach[2:]).astype(int).tolist()
    return height, width
