"""Detections of one image on the host, in variable number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class ImageDetections(NamedTuple):
    """Detections of one image, without padding. `detectors.Detections` holds those of a batch on the device.

    Attributes:
      boxes: Boxes, xyxy, px of the image.
      scores: Scores in [0, 1].
      classes: Class indices from 0.
      deviation: Standard deviation of each side (x1, y1, x2, y2), px of the image; None if the objective does not
        predict it.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    deviation: Float[np.ndarray, "n 4"] | None = None


def take(detections: ImageDetections, index: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> ImageDetections:
    """Return the detections at an index, or where a mask is True."""
    return ImageDetections._make(None if part is None else part[index] for part in detections)


def concatenate(parts: Sequence[ImageDetections]) -> ImageDetections:
    """Join the detections of one or more parts; `deviation` is kept only if every part has it."""
    return ImageDetections._make(_joined(field) for field in zip(*parts, strict=True))


def _joined(field: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in field if part is not None]
    return np.concatenate(known) if len(known) == len(field) else None


def by_score(detections: ImageDetections) -> ImageDetections:
    """Sort detections, best first; the order of equal scores is kept."""
    return take(detections, best_first(detections.scores))


def best_first(scores: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the order that sorts scores, best first; the order of equal scores is kept."""
    return np.argsort(-scores, kind="stable")
