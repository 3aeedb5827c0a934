"""Merge the detections of overlapping tiles into one per object: by suppression, or by merging as in SAHI."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from ugs_jax.inference.found import Found, by_score, take
from ugs_jax.inference.pairs import Metric, Neighbours, neighbours

_CUT_WEIGHT = 0.5  # weight of the score of a box that may be part of an object, against 1 for a whole box


@dataclass(frozen=True)
class Merge:
    """Options for merging matching detections of one class.

    Repeatedly, the best remaining box becomes the leader of the remaining boxes that match it. The score of a box that
    the border of a tile may have cut counts half, so that the whole box of a neighbouring tile leads its parts.

    Attributes:
      method: `nms` keeps the leader. `nmm` (greedy non-maximum merging) extends the leader to the boxes that it leads,
        and gives it their best score.
      metric: `iou`, or `ios`, intersection over the smaller box, by which a part of an object matches the whole.
      threshold: Overlap above which boxes match, in [0, 1).

    References:
      Akyon et al., Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection, ICIP 2022.
    """

    method: Literal["nms", "nmm"] = "nmm"
    metric: Metric = "ios"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in ("nms", "nmm"):
            raise ValueError(f"Merge.method: expected 'nms' or 'nmm', got {self.method!r}")
        if self.metric not in ("iou", "ios"):
            raise ValueError(f"Merge.metric: expected 'iou' or 'ios', got {self.metric!r}")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"Merge.threshold: expected an overlap in [0, 1), got {self.threshold}")


def merge(found: Found, options: Merge) -> Found:
    """Merge every group of matching detections into one.

    1. If it is known which boxes are cut (`found.cut`), only cut leaders are extended: the boxes that a whole leader
       leads are its duplicates and its parts. If it is unknown, all leaders are extended, as in SAHI.
    2. Parts of an object that no tile contains whole may match each other only after they have been extended. Therefore
       merging is repeated until nothing changes, from the second round on only for pairs with a cut box.

    Args:
      found: Detections of an image.
      options: Method, metric and threshold.

    Returns:
      Detections, best first. The deviation of a side is that of the box from which the side comes.
    """
    if options.method == "nms":
        return by_score(take(found, np.unique(_leaders(found, options, None))))
    merged = _extended(found, _leaders(found, options, None))
    while merged.cut is not None and merged.cut.any():
        leaders = _leaders(merged, options, merged.cut)
        if np.array_equal(leaders, np.arange(len(leaders))):
            break
        merged = _extended(merged, leaders)
    return by_score(merged)


def _leaders(found: Found, options: Merge, either: Bool[np.ndarray, " n"] | None) -> Int[np.ndarray, " n"]:
    """Return the leader of every detection; a leader leads itself."""
    pairs = neighbours(found.boxes, found.labels, options.metric, options.threshold, either)
    rank = found.scores if found.cut is None else np.where(found.cut, _CUT_WEIGHT, 1.0) * found.scores
    return _greedy(np.argsort(-rank, kind="stable"), pairs)


def _greedy(order: Int[np.ndarray, " n"], pairs: Neighbours) -> Int[np.ndarray, " n"]:
    leader = np.full(len(order), -1)
    for i in order.tolist():
        if leader[i] < 0:
            leader[i] = i
            others = pairs.of(i)
            leader[others[leader[others] < 0]] = i
    return leader


def _extended(found: Found, leader: Int[np.ndarray, " n"]) -> Found:
    """Extend leaders to the boxes they lead, by rising index; a result is cut only if all of its boxes are cut."""
    leaders = np.unique(leader)
    scores = found.scores.copy()
    np.maximum.at(scores, leader, found.scores)
    growing = leader == np.arange(len(leader))
    growing |= True if found.cut is None else found.cut[leader]
    (rows,) = np.nonzero(growing)
    boxes, deviation = found.boxes[leaders], None if found.deviation is None else found.deviation[leaders]
    for side, sign in enumerate((1, 1, -1, -1)):  # the outermost side; of equal ones, that of the leader
        order = rows[np.lexsort((leader[rows] != rows, sign * found.boxes[rows, side], leader[rows]))]
        outermost = order[np.unique(leader[order], return_index=True)[1]]
        boxes[:, side] = found.boxes[outermost, side]
        if deviation is not None and found.deviation is not None:
            deviation[:, side] = found.deviation[outermost, side]
    cut = None if found.cut is None else found.cut.copy()
    if cut is not None and found.cut is not None:
        np.logical_and.at(cut, leader, found.cut)
        cut = cut[leaders]
    return Found(boxes, scores[leaders], found.labels[leaders], deviation, cut)
