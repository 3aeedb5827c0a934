"""Calibration of scores: confidence against precision."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Reliability(NamedTuple):
    """Confidence and precision in bins of equal width.

    Attributes:
      confidence: Mean score in each bin; NaN in an empty bin.
      precision: Share of right detections in each bin; NaN in an empty bin.
      count: Number of detections in each bin.
      error: Expected calibration error: mean of |precision − confidence| over all detections; NaN without detections.
    """

    confidence: Float[np.ndarray, " bins"]
    precision: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]  # type: ignore[assignment]  # hides tuple.count, which is not needed here
    error: float


def reliability(scores: Float[np.ndarray, " d"], right: Bool[np.ndarray, " d"], bins: int = 10) -> Reliability:
    """Compare the scores of detections with the share that is right.

    Args:
      scores: Scores in [0, 1]. Leave out ignored detections, and those with scores too low to be used.
      right: True for detections that match an object.
      bins: Number of bins of equal width in [0, 1]. A score at a border belongs to the upper bin.

    References:
      Küppers et al., Multivariate Confidence Calibration for Object Detection, CVPR Workshops 2020.
    """
    at = np.minimum((scores * bins).astype(np.int64), bins - 1)
    count = np.bincount(at, minlength=bins)
    mean = lambda values: np.divide(  # noqa: E731
        np.bincount(at, values, minlength=bins), count, out=np.full(bins, np.nan), where=count > 0
    )
    confidence, precision = mean(scores), mean(right.astype(np.float64))
    gaps = np.where(count > 0, np.abs(precision - confidence), 0.0)
    return Reliability(confidence, precision, count, float(gaps @ count / count.sum()) if len(scores) else np.nan)
