"""Precision, recall and F1 over the confidence threshold."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_POINTS = 101


class Curve(NamedTuple):
    """Precision, recall and F1 of the detections with at least a confidence, for each confidence that occurs.

    Attributes:
      confidence: Distinct scores, decreasing.
      precision: Share of the detections that are right, in [0, 1].
      recall: Share of the objects that are found, in [0, 1]; 0 if there are no objects.
      f1: Harmonic mean of precision and recall.
      envelope: Highest precision at this recall or a larger one, from which average precision is computed.
    """

    confidence: Float[np.ndarray, " n"]
    precision: Float[np.ndarray, " n"]
    recall: Float[np.ndarray, " n"]
    f1: Float[np.ndarray, " n"]
    envelope: Float[np.ndarray, " n"]

    @property
    def best(self) -> int | None:
        """Index of the highest F1, the one with the highest confidence among equals; None if no detection is right."""
        return int(np.argmax(self.f1)) if self.f1.any() else None


def precision_recall(scores: Float[np.ndarray, " d"], right: Bool[np.ndarray, " d"], objects: int) -> Curve:
    """Return precision, recall and F1 over the confidence.

    Args:
      scores: Scores of the detections. Leave out ignored ones.
      right: True for detections that match an object.
      objects: Number of objects.
    """
    order = np.argsort(-scores, kind="stable")
    confidence = scores[order]
    last = np.flatnonzero(np.append(np.diff(confidence) != 0, True)[: len(confidence)])  # of equal scores
    hits, count = np.cumsum(right[order])[last].astype(np.float64), last + 1.0
    precision = hits / count
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return Curve(confidence[last], precision, hits / max(1, objects), 2 * hits / (count + objects), envelope)


def average_precision_101(curve: Curve) -> float:
    """Return COCO's average precision: the mean of the envelope at 101 recalls, 0 beyond the highest recall."""
    at = np.searchsorted(curve.recall, np.linspace(0.0, 1.0, _POINTS), side="left")
    return float(np.append(curve.envelope, 0.0)[np.minimum(at, len(curve.envelope))].mean())


def thinned(curve: Curve, points: int = 100) -> Curve:
    """Return a curve with about `points` confidences at equal distances and as many recalls, and the highest F1."""
    if not len(curve.confidence):
        return curve
    by_confidence = np.searchsorted(-curve.confidence, -np.linspace(0.0, 1.0, points))
    by_recall = np.searchsorted(curve.recall, np.linspace(0.0, curve.recall[-1], points))
    end = len(curve.confidence) - 1
    kept: Int[np.ndarray, " k"] = np.unique(
        np.concatenate([np.minimum(by_confidence, end), np.minimum(by_recall, end), [0, end, curve.best or 0]])
    )
    return Curve._make(part[kept] for part in curve)
