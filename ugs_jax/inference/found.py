"""Detections of one image on the host, whose number is not fixed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Found(NamedTuple):
    """Detections of one image, in any order.

    Attributes:
      boxes: xyxy, px of the image.
      scores: in [0, 1].
      labels: class indices from 0.
      deviation: standard deviation of each side (x1, y1, x2, y2), px of the image, where the localization predicts it.
      cut: whether a box reaches a border of its tile inside the image, so that it may be part of an object; None where
        that is not known.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    deviation: Float[np.ndarray, "n 4"] | None = None
    cut: Bool[np.ndarray, " n"] | None = None


def take(found: Found, index: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> Found:
    """The detections at an index, or where a mask is True."""
    return Found._make(None if part is None else part[index] for part in found)


def concatenate(parts: Sequence[Found]) -> Found:
    """All detections of at least one part; `deviation` and `cut` only if every part has them."""
    return Found._make(_joined(field) for field in zip(*parts, strict=True))


def _joined(field: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in field if part is not None]
    return np.concatenate(known) if len(known) == len(field) else None


def by_score(found: Found) -> Found:
    """Best first; of equal scores the earlier first."""
    return take(found, np.argsort(-found.scores, kind="stable"))
