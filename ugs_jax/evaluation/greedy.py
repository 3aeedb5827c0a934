"""Greedy matching of detections with objects, for all images, classes and thresholds at once."""

import typing

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.overlaps import corners, intersections, iou, share


class Pairs(typing.NamedTuple):
    """Pairs of a detection and an object that can be matched.

    Detection i has the pairs `starts[i]:starts[i] + counts[i]`.

    Attributes:
      starts: First pair of each detection.
      counts: Number of pairs of each detection.
      objects: Object of each pair, increasing for each detection.
      overlaps: IoU of each pair.
      absorbed: Largest share of the area of each detection that lies inside one object that is not scored.
    """

    starts: Int[np.ndarray, " d"]
    counts: Int[np.ndarray, " d"]
    objects: Int[np.ndarray, " p"]
    overlaps: Float[np.ndarray, " p"]
    absorbed: Float[np.ndarray, " d"]


def find_pairs(
    detections: Float[np.ndarray, "d 4"],
    groups: Int[np.ndarray, " d"],
    objects: Float[np.ndarray, "g 4"],
    object_groups: Int[np.ndarray, " g"],
    scored: Bool[np.ndarray, " g"],
    min_overlap: float,
) -> Pairs:
    """Return the pairs of a detection and a scored object of its group whose IoU is at least `min_overlap`.

    Args:
      detections: Boxes of the detections: left, top, width and height, px.
      groups: Image and class of each detection, as one number.
      objects: Boxes of the objects: left, top, width and height, px.
      object_groups: Image and class of each object, as one number.
      scored: False for objects that only absorb detections.
      min_overlap: Least IoU of a pair.
    """
    absorbed = np.zeros(len(detections))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    objects_of = members(object_groups)
    for group, rows in members(groups).items():
        if group not in objects_of:
            continue
        columns = objects_of[group]
        shared = common_areas(detections[rows], objects[columns])
        area, other_area = detections[rows, 2:].prod(axis=1)[:, None], objects[columns, 2:].prod(axis=1)
        overlaps = np.where(scored[columns], iou(shared, area, other_area), share(shared, area))
        absorbed[rows] = np.where(scored[columns], 0.0, overlaps).max(axis=1)
        i, j = np.nonzero((overlaps >= min_overlap) & scored[columns])
        parts.append((rows[i], columns[j], overlaps[i, j]))
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    firsts, seconds, ious = (np.concatenate(part) for part in zip(nothing, *parts, strict=True))
    order = np.argsort(firsts, kind="stable")
    counts = np.bincount(firsts, minlength=len(detections))
    return Pairs(np.cumsum(counts) - counts, counts, seconds[order], ious[order], absorbed)


def match(
    pairs: Pairs,
    taking_part: Bool[np.ndarray, " d"],
    groups: Int[np.ndarray, " d"],
    scores: Float[np.ndarray, " d"],
    thresholds: Float[np.ndarray, " t"],
) -> Bool[np.ndarray, "t d"]:
    """Return the mask of matched detections at each threshold; see `assign`.

    Args:
      pairs: Pairs from `find_pairs`.
      taking_part: False for detections that are left out.
      groups: Image and class of each detection, as one number.
      scores: Scores of the detections.
      thresholds: Least IoUs of a match. Each gives a matching of its own.
    """
    return assign(pairs, taking_part, groups, scores, thresholds) >= 0


def assign(
    pairs: Pairs,
    taking_part: Bool[np.ndarray, " d"],
    groups: Int[np.ndarray, " d"],
    scores: Float[np.ndarray, " d"],
    thresholds: Float[np.ndarray, " t"],
) -> Int[np.ndarray, "t d"]:
    """Match the detections of each group in order of their scores, each with the free object that it overlaps most.

    The n-th detections of all groups are matched at once, because they cannot compete for an object. Among equal
    scores, the first detection comes first. Among equal overlaps, the last object is taken.

    Args:
      pairs: Pairs from `find_pairs`.
      taking_part: False for detections that are left out.
      groups: Image and class of each detection, as one number.
      scores: Scores of the detections.
      thresholds: Least IoUs of a match. Each gives a matching of its own.

    Returns:
      Index of the object of each detection at each threshold; −1 for detections without a match.
    """
    matched = np.full((len(thresholds), len(scores)), -1, np.int64)
    taken = np.zeros((len(thresholds), 1 + int(pairs.objects.max(initial=0))), bool)
    for rows in turns(np.flatnonzero(taking_part & (pairs.counts > 0)), groups, scores):
        places = np.arange(pairs.counts[rows].max())
        real = places < pairs.counts[rows, None]
        at = np.where(real, pairs.starts[rows, None] + places, 0)
        objects, overlaps = pairs.objects[at], np.where(real, pairs.overlaps[at], -1.0)
        free = (overlaps >= thresholds[:, None, None]) & ~taken[:, objects]
        best = places[-1] - np.argmax(np.where(free, overlaps, -1.0)[..., ::-1], axis=-1)
        t, i = np.nonzero(free.any(axis=-1))
        chosen = objects[i, best[t, i]]
        taken[t, chosen] = True
        matched[t, rows[i]] = chosen
    return matched


def turns(rows: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Return the best of `rows` in each group, then the second best, and so on; among equal scores, the first."""
    rows = rows[np.lexsort((-scores[rows], groups[rows]))]
    _, first, inverse = np.unique(groups[rows], return_index=True, return_inverse=True)
    turn = np.arange(len(rows)) - first[inverse]
    sizes = np.bincount(turn)
    return np.split(rows[np.argsort(turn, kind="stable")], np.cumsum(sizes)[:-1]) if len(rows) else []


def members(groups: np.ndarray) -> dict[int, np.ndarray]:
    """Return the indices of the members of each group, in order."""
    order = np.argsort(groups, kind="stable")
    names, first = np.unique(groups[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, first[1:]), strict=True)) if len(groups) else {}


def common_areas(boxes: Float[np.ndarray, "d 4"], others: Float[np.ndarray, "g 4"]) -> Float[np.ndarray, "d g"]:
    """Return the intersection of each box with each other one, px². Boxes are left, top, width and height."""
    return intersections(corners(boxes)[:, None], corners(others))
