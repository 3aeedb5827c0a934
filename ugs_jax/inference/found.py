"""Detections of one image on the host, in variable number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Found(NamedTuple):
    """Detections of one image, in any order.

    Attributes:
      boxes: Boxes, xyxy, px of the image.
      scores: Scores in [0, 1].
      labels: Class indices from 0.
      deviation: Standard deviation of each side (x1, y1, x2, y2), px of the image, or None if the localization does not
        predict it.
      cut: Mask of boxes that reach a border of their tile inside the image, so that they may be part of an object; None
        if unknown.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    deviation: Float[np.ndarray, "n 4"] | None = None
    cut: Bool[np.ndarray, " n"] | None = None


def take(found: Found, index: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> Found:
    """Return the detections at an index, or where a mask is True."""
    return Found._make(None if part is None else part[index] for part in found)


def concatenate(parts: Sequence[Found]) -> Found:
    """Join the detections of one or more parts; `deviation` and `cut` are kept only if every part has them."""
    return Found._make(_joined(field) for field in zip(*parts, strict=True))


def _joined(field: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in field if part is not None]
    return np.concatenate(known) if len(known) == len(field) else None


def by_score(found: Found) -> Found:
    """Sort detections, best first; the order of equal scores is kept."""
    return take(found, np.argsort(-found.scores, kind="stable"))
