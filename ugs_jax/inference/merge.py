"""Merge the detections of overlapping tiles into one per object: by suppression, or by merging as in SAHI."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from ugs_jax.evaluation.detections import ImageDetections, best_first, by_score, take
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


def merge(detections: ImageDetections, options: Merge, cut: Bool[np.ndarray, " n"] | None = None) -> ImageDetections:
    """Merge every group of matching detections into one.

    1. If it is known which boxes are cut, only cut leaders are extended: the boxes that a whole leader leads are its
       duplicates and its parts. If it is unknown, all leaders are extended, as in SAHI.
    2. Parts of an object that no tile contains whole may match each other only after they have been extended. Therefore
       merging is repeated until nothing changes, from the second round on only for pairs with a cut box.

    Args:
      detections: Detections of an image.
      options: Method, metric and threshold.
      cut: Mask of boxes that reach a border of their tile inside the image, so that they may be part of an object; None
        if unknown.

    Returns:
      Detections, best first. The deviation of a side is that of the box from which the side comes.
    """
    if options.method == "nms":
        return by_score(take(detections, np.unique(_leaders(detections, options, cut))))
    merged, cut = _extended(detections, cut, _leaders(detections, options, cut))
    while cut is not None and cut.any():
        leaders = _leaders(merged, options, cut, either=cut)
        if np.array_equal(leaders, np.arange(len(leaders))):
            break
        merged, cut = _extended(merged, cut, leaders)
    return by_score(merged)


def _leaders(
    detections: ImageDetections,
    options: Merge,
    cut: Bool[np.ndarray, " n"] | None,
    either: Bool[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " n"]:
    """Return the leader of every detection; a leader leads itself."""
    pairs = neighbours(detections.boxes, detections.classes, options.metric, options.threshold, either)
    rank = detections.scores if cut is None else np.where(cut, _CUT_WEIGHT, 1.0) * detections.scores
    return _greedy(best_first(rank), pairs)


def _greedy(order: Int[np.ndarray, " n"], pairs: Neighbours) -> Int[np.ndarray, " n"]:
    leader = np.full(len(order), -1)
    for i in order.tolist():
        if leader[i] < 0:
            leader[i] = i
            others = pairs.of(i)
            leader[others[leader[others] < 0]] = i
    return leader


def _extended(
    detections: ImageDetections, cut: Bool[np.ndarray, " n"] | None, leader: Int[np.ndarray, " n"]
) -> tuple[ImageDetections, Bool[np.ndarray, " m"] | None]:
    """Extend leaders to the boxes they lead, by rising index; a result is cut only if all of its boxes are cut."""
    leaders = np.unique(leader)
    scores = detections.scores.copy()
    np.maximum.at(scores, leader, detections.scores)
    growing = leader == np.arange(len(leader))
    growing |= True if cut is None else cut[leader]
    (rows,) = np.nonzero(growing)
    merged = take(detections._replace(scores=scores), leaders)
    for side, sign in enumerate((1, 1, -1, -1)):  # the outermost side; of equal ones, that of the leader
        order = rows[np.lexsort((leader[rows] != rows, sign * detections.boxes[rows, side], leader[rows]))]
        outermost = order[np.unique(leader[order], return_index=True)[1]]
        merged.boxes[:, side] = detections.boxes[outermost, side]
        if merged.deviation is not None and detections.deviation is not None:
            merged.deviation[:, side] = detections.deviation[outermost, side]
    if cut is None:
        return merged, None
    all_cut = cut.copy()
    np.logical_and.at(all_cut, leader, cut)
    return merged, all_cut[leaders]
