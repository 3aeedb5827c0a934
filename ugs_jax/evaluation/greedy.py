"""Greedy matching of detections with objects, for all images, classes and thresholds at once."""

import typing

import numpy as np
from jaxtyping import Bool, Float, Int


class Pairs(typing.NamedTuple):
    """Which objects each detection could be matched with: detection i owns pairs `starts[i]:starts[i] + counts[i]`.

    Attributes:
      starts: [detections].
      counts: [detections].
      objects: [pairs] index of the object, increasing for each detection.
      overlaps: [pairs] IoU.
      absorbed: [detections] the largest share of the detection's area inside one object that is not scored; 0 for none.
    """

    starts: Int[np.ndarray, " d"]
    counts: Int[np.ndarray, " d"]
    objects: Int[np.ndarray, " p"]
    overlaps: Float[np.ndarray, " p"]
    absorbed: Float[np.ndarray, " d"]


def find_pairs(
    found: Float[np.ndarray, "d 4"],
    found_groups: Int[np.ndarray, " d"],
    truth: Float[np.ndarray, "g 4"],
    truth_groups: Int[np.ndarray, " g"],
    scored: Bool[np.ndarray, " g"],
    least: float,
) -> Pairs:
    """Pairs of a detection and a scored object of its group that overlap by at least `least`.

    Args:
      found: left, top, width, height, px.
      found_groups: the image and class of each detection, as one number.
      truth: objects, likewise.
      truth_groups: likewise.
      scored: False for objects that only absorb detections.
      least: IoU.
    """
    absorbed = np.zeros(len(found))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    objects_of = members(truth_groups)
    for group, rows in members(found_groups).items():
        if group not in objects_of:
            continue
        columns = objects_of[group]
        common = common_area(found[rows], truth[columns])
        area, other = found[rows, 2:].prod(axis=1)[:, None], truth[columns, 2:].prod(axis=1)
        whole = np.where(scored[columns], area + other - common, area)  # IoU, or the share of the detection
        overlaps = np.where(common > 0, common / np.where(common > 0, whole, 1.0), 0.0)
        absorbed[rows] = np.where(scored[columns], 0.0, overlaps).max(axis=1)
        i, j = np.nonzero((overlaps >= least) & scored[columns])
        parts.append((rows[i], columns[j], overlaps[i, j]))
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    detections, objects, ious = (np.concatenate(part) for part in zip(nothing, *parts, strict=True))
    order = np.argsort(detections, kind="stable")
    counts = np.bincount(detections, minlength=len(found))
    return Pairs(np.cumsum(counts) - counts, counts, objects[order], ious[order], absorbed)


def match(
    pairs: Pairs,
    taking_part: Bool[np.ndarray, " d"],
    groups: Int[np.ndarray, " d"],
    scores: Float[np.ndarray, " d"],
    thresholds: Float[np.ndarray, " t"],
) -> Bool[np.ndarray, "t d"]:
    """Matches the detections of each group in order of their scores, each with the free object it overlaps most.

    The n-th detections of all groups take their turn together, for they cannot be in each other's way. Of equal scores
    the first comes first, of equal overlaps the last object is taken.

    Args:
      pairs: from `find_pairs`.
      taking_part: False for detections that are left out.
      groups: the image and class of each detection, as one number.
      scores: of the detections.
      thresholds: least overlaps; each is a matching of its own.

    Returns:
      Whether the detection is matched, at each threshold.
    """
    matched = np.zeros((len(thresholds), len(scores)), bool)
    taken = np.zeros((len(thresholds), 1 + int(pairs.objects.max(initial=0))), bool)
    for rows in turns(np.flatnonzero(taking_part & (pairs.counts > 0)), groups, scores):
        places = np.arange(pairs.counts[rows].max())
        real = places < pairs.counts[rows, None]
        at = np.where(real, pairs.starts[rows, None] + places, 0)
        objects, overlaps = pairs.objects[at], np.where(real, pairs.overlaps[at], -1.0)
        free = (overlaps >= thresholds[:, None, None]) & ~taken[:, objects]
        best = places[-1] - np.argmax(np.where(free, overlaps, -1.0)[..., ::-1], axis=-1)
        t, i = np.nonzero(free.any(axis=-1))
        taken[t, objects[i, best[t, i]]] = True
        matched[t, rows[i]] = True
    return matched


def turns(rows: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Return the best of `rows` in each group, then the second best, and so on; of equal scores, the first."""
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


def common_area(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the intersections [d, g] of boxes given as left, top, width, height."""
    low = np.maximum(found[:, None, :2], truth[:, :2])
    high = np.minimum(found[:, None, :2] + found[:, None, 2:], truth[:, :2] + truth[:, 2:])
    return np.clip(high - low, 0.0, None).prod(axis=-1)
