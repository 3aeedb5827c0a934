"""Pairs of overlapping boxes on the host, for thousands of boxes of a large image, of which few overlap.

The suppression of `ugs_jax.boxes` compares all pairs of boxes on the device, with a fixed number of boxes. The tiles of
a large image give a variable number of boxes, whose pairs may not fit in memory. Here boxes are sorted along x, and
only boxes whose ranges in x overlap are compared.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.overlaps import areas, intersections, iou, share

Metric = Literal["iou", "ios"]

_CHUNK = 2**21  # pairs per chunk


class Neighbours(NamedTuple):
    """Matches of every box, in compressed rows: box i matches the boxes `index[start[i] : start[i + 1]]`.

    Attributes:
      start: First entry of each box in `index`, and the length of `index` at the end.
      index: Indices of the matching boxes.
    """

    start: Int[np.ndarray, " starts"]
    index: Int[np.ndarray, " pairs"]  # type: ignore[assignment]  # hides tuple.index, which is not needed here

    def of(self, i: int) -> Int[np.ndarray, " some"]:
        """Return the boxes that match box i."""
        return self.index[self.start[i] : self.start[i + 1]]


def overlap_of(
    boxes: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "#n 4"], metric: Metric
) -> Float[np.ndarray, " n"]:
    """Return the overlap of each box with its partner, in [0, 1]; 0 where one of them has no area.

    Args:
      boxes: Boxes, xyxy, px.
      others: Partners, xyxy, px: one per box, or a single one for all boxes.
      metric: `iou`, intersection over union; or `ios`, intersection over the smaller of the two, which is 1 for a box
        inside another.
    """
    shared, area, other_area = intersections(boxes, others), areas(boxes), areas(others)
    return iou(shared, area, other_area) if metric == "iou" else share(shared, np.minimum(area, other_area))


def neighbours(
    boxes: Float[np.ndarray, "n 4"],
    classes: Int[np.ndarray, " n"],
    metric: Metric,
    threshold: float,
    either: Bool[np.ndarray, " n"] | None = None,
) -> Neighbours:
    """Return the boxes of the same class that overlap each box by more than a threshold.

    Args:
      boxes: Boxes, xyxy, px.
      classes: Class index of each box.
      metric: Measure of overlap, as in `overlap_of`.
      threshold: Overlap above which boxes match, in [0, 1).
      either: Mask that restricts the result to pairs with at least one marked box; None for all pairs.

    Returns:
      Matches of each box by rising index, without the box itself.
    """
    n = len(boxes)
    parts = [np.zeros((2, 0), np.int64)]
    for i, j in _meeting(boxes, classes):
        if either is not None:
            kept = either[i] | either[j]
            i, j = i[kept], j[kept]
        match = overlap_of(boxes[i], boxes[j], metric) > threshold
        parts.append(np.stack([i[match], j[match]]))
    pairs = np.concatenate(parts, axis=1)
    pairs = np.concatenate([pairs, pairs[::-1]], axis=1)
    pairs = pairs[:, np.lexsort((pairs[1], pairs[0]))]
    return Neighbours(np.searchsorted(pairs[0], np.arange(n + 1)), pairs[1])


def _meeting(
    boxes: Float[np.ndarray, "n 4"], classes: Int[np.ndarray, " n"]
) -> Iterator[tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]]:
    """Yield every pair of one class whose ranges along x and y overlap, once, in chunks."""
    for each in np.unique(classes):
        rows = np.flatnonzero(classes == each)
        rows = rows[np.argsort(boxes[rows, 0], kind="stable")]
        left, right = boxes[rows, 0], boxes[rows, 2]
        first = np.arange(1, len(rows) + 1)  # count boxes that begin later, but before this box ends
        count = np.maximum(np.searchsorted(left, right) - first, 0)
        ends = np.cumsum(count)
        begin = 0
        while begin < len(rows):
            done = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
            some = count[begin:end]
            i = np.repeat(np.arange(begin, end), some)
            j = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some) + first[i]
            i, j = rows[i], rows[j]
            meet = (boxes[i, 1] < boxes[j, 3]) & (boxes[j, 1] < boxes[i, 3])
            yield i[meet], j[meet]
            begin = end
