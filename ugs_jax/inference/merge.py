"""One detection an object from those of overlapping tiles: suppression, or merging as in SAHI."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from ugs_jax.inference.found import Found, by_score, take
from ugs_jax.inference.pairs import Metric, Neighbours, neighbours

_CUT_WEIGHT = 0.5  # what the score of a box that may be part of an object counts against that of a whole one


@dataclass(frozen=True)
class Merge:
    """How detections of one class that match become one.

    The best box left leads those left that match it. A box that a tile's border may have cut counts half its score, so
    that the whole box of a neighbouring tile leads its parts.

    Attributes:
      method: `nms` keeps the leader; `nmm` (greedy non-maximum merging) extends it to the boxes it leads and gives it
        their best score.
      metric: `iou`; or `ios`, intersection over the smaller box, by which part of an object matches the whole.
      threshold: boxes match that overlap by more, in [0, 1).

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
    """One detection for each group that matches.

    1. Where it is known which boxes are cut (`found.cut`), only cut leaders are extended: what a whole one leads is
       duplicates and parts of itself. Where it is not known, all leaders are, as in SAHI.
    2. Parts of an object that no tile sees whole need not match each other before they have grown. Therefore merging is
       repeated, from the second time on only for pairs with a cut box, until nothing changes.

    Args:
      found: detections of an image.
      options: method, metric, threshold.

    Returns:
      Best first. A side's deviation is that of the box the side comes from.
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
    """For every detection the one that leads it, itself for a leader."""
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
    """Leaders by rising index, extended to the boxes they lead, with their best score; cut only if all of them are."""
    leaders = np.unique(leader)
    scores = found.scores.copy()
    np.maximum.at(scores, leader, found.scores)
    growing = leader == np.arange(len(leader))
    growing |= True if found.cut is None else found.cut[leader]
    (rows,) = np.nonzero(growing)
    boxes, deviation = found.boxes[leaders], None if found.deviation is None else found.deviation[leaders]
    for side, sign in enumerate((1, 1, -1, -1)):  # the outermost, and of equal ones the leader's
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
