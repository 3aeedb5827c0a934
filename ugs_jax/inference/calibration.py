"""Calibration of the predicted deviations of box sides."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ugs_jax.evaluation.detections import ImageDetections, by_score
from ugs_jax.inference.pairs import overlap_of


class SideErrors(NamedTuple):
    """Errors of the sides (x1, y1, x2, y2) of detections that match an object.

    Attributes:
      error: Detection minus object, px.
      deviation: Predicted standard deviation, px.
    """

    error: Float[np.ndarray, "n 4"]
    deviation: Float[np.ndarray, "n 4"]


class Calibration(NamedTuple):
    """Errors of sides, sorted by predicted deviation into bins of equal count.

    Attributes:
      predicted: Root mean square of the deviations in each bin, px.
      error: Root mean square of the errors in each bin, px. It equals `predicted` if deviations are calibrated.
      count: Number of sides in each bin.
      factor: Factor √mean (error/deviation)² that calibrates the deviations; 1 if they are calibrated.
    """

    predicted: Float[np.ndarray, " bins"]
    error: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]  # type: ignore[assignment]  # hides tuple.count, which is not needed here
    factor: float


_FLOOR = 1e-3  # px; smaller deviations are replaced by it


def side_errors(
    detections: ImageDetections, boxes: Float[np.ndarray, "m 4"], labels: Int[np.ndarray, " m"], *, iou: float = 0.5
) -> SideErrors:
    """Return the side errors of the detections of an image that match an object.

    Detections choose in order of their scores. Each takes, among the unmatched objects of its class, the one that it
    overlaps most. An object is matched at most once.

    Args:
      detections: Detections of the image, with deviations.
      boxes: Boxes of the objects, xyxy, px of the image.
      labels: Class indices of the objects.
      iou: Least IoU of a match, in (0, 1]. Larger errors are not observed, so a low value is more informative.

    Raises:
      ValueError: The detections have no deviations.
    """
    detections, left = by_score(detections), np.ones(len(boxes), bool)
    if detections.deviation is None:
        raise ValueError("detections: expected some with deviations, got none; use UGS or DFL")
    pairs = []
    for i in range(len(detections.scores)):
        free = left & (labels == detections.classes[i])
        overlap = np.where(free, overlap_of(boxes, detections.boxes[i : i + 1], "iou"), 0.0)
        if len(boxes) and overlap.max() >= iou:
            j = int(np.argmax(overlap))
            left[j] = False
            pairs.append((i, j))
    rows, objects = np.array(pairs, np.int64).reshape(-1, 2).T
    return SideErrors(detections.boxes[rows] - boxes[objects], detections.deviation[rows])


def calibration(images: Sequence[SideErrors], bins: int = 10) -> Calibration:
    """Compare predicted deviations with the errors of all sides of all images.

    Args:
      images: Errors of each image, from `side_errors`.
      bins: Number of bins. It is reduced to the number of sides if there are fewer sides.

    Raises:
      ValueError: No image has a matched detection, or `bins` is below 1.
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
