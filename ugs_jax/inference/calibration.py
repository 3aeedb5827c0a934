"""Whether sides are as far off as their deviations say."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ugs_jax.inference.found import Found, by_score
from ugs_jax.inference.pairs import overlap_of


class SideErrors(NamedTuple):
    """Sides (x1, y1, x2, y2) of detections that match an object.

    Attributes:
      error: detection minus object, px.
      deviation: predicted, px.
    """

    error: Float[np.ndarray, "n 4"]
    deviation: Float[np.ndarray, "n 4"]


class Calibration(NamedTuple):
    """Errors of sides in bins of equal count by their predicted deviation.

    Attributes:
      predicted: root mean square of the deviations in each bin, px.
      error: root mean square of the errors in each bin, px; equal to `predicted` where deviations are right.
      count: sides in each bin.
      factor: √mean (error/deviation)², by which all deviations would have to be multiplied; 1 where they are right.
    """

    predicted: Float[np.ndarray, " bins"]
    error: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    factor: float


_FLOOR = 1e-3  # px; a smaller deviation counts as that


def side_errors(
    found: Found, boxes: Float[np.ndarray, "m 4"], labels: Int[np.ndarray, " m"], *, iou: float = 0.5
) -> SideErrors:
    """Errors of the detections of an image that match an object, each of which is matched at most once.

    Args:
      found: with deviations; the best takes first the object left of its class that it overlaps most.
      boxes: of the objects, xyxy, px of the image.
      labels: of the objects.
      iou: least overlap of a match, in (0, 1]. Errors beyond it are not seen, so that a low one tells more.

    Raises:
      ValueError: detections without deviations.
    """
    found, left = by_score(found), np.ones(len(boxes), bool)
    if found.deviation is None:
        raise ValueError("found: expected detections with deviations, got none; use UGS or DFL")
    pairs = []
    for i in range(len(found.scores)):
        overlap = np.where(left & (labels == found.labels[i]), overlap_of(boxes, found.boxes[i : i + 1], "iou"), 0.0)
        if len(boxes) and overlap.max() >= iou:
            j = int(np.argmax(overlap))
            left[j] = False
            pairs.append((i, j))
    rows, objects = np.array(pairs, np.int64).reshape(-1, 2).T
    return SideErrors(found.boxes[rows] - boxes[objects], found.deviation[rows])


def calibration(images: Sequence[SideErrors], bins: int = 10) -> Calibration:
    """Predicted deviations against errors of all sides of all images.

    Args:
      images: from `side_errors`.
      bins: how many; fewer where there are fewer sides.

    Raises:
      ValueError: no side at all, or `bins` below 1.
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    error = np.concatenate([np.zeros(0), *(image.error.ravel() for image in images)])
    deviation = np.concatenate([np.zeros(0), *(image.deviation.ravel() for image in images)])
    if not error.size:
        raise ValueError("images: expected a detection that matches an object, got none; train longer, or lower `iou`")
    parts = np.array_split(np.argsort(deviation, kind="stable"), min(bins, error.size))
    return Calibration(
        np.array([_rms(deviation[part]) for part in parts]),
        np.array([_rms(error[part]) for part in parts]),
        np.array([len(part) for part in parts]),
        _rms(error / np.maximum(deviation, _FLOOR)),
    )


def _rms(values: Float[np.ndarray, " n"]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
