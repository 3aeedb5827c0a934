"""COCO average precision in which unmatched detections are also ignored by share, as TinyPerson's evaluator has it."""

import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.greedy import common_area, members, turns
from ugs_jax.evaluation.protocol import Protocol, SizeBin

_RECALLS = np.linspace(0.0, 1.0, 101)


class Boxes(typing.NamedTuple):
    """Objects or detections of all images.

    Attributes:
      boxes: left, top, width, height, px.
      groups: image · classes + class index.
      areas: px².
      scores: of detections; 0 for objects.
      crowds: True for crowds.
      ignored: True for ignored objects and crowds.
    """

    boxes: Float[np.ndarray, "n 4"]
    groups: Int[np.ndarray, " n"]
    areas: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    crowds: Bool[np.ndarray, " n"]
    ignored: Bool[np.ndarray, " n"]


class _Pairs(typing.NamedTuple):
    """Every detection beside the objects that it meets: detection i owns `starts[i]:starts[i] + counts[i]`."""

    starts: np.ndarray
    counts: np.ndarray
    objects: np.ndarray
    overlaps: np.ndarray  # IoU; share of the detection for crowds
    shares: np.ndarray


def evaluate_by_share(
    objects: Boxes, found: Boxes, classes: int, protocol: Protocol, ranges: Sequence[SizeBin]
) -> tuple[Float[np.ndarray, "t r k a"], Float[np.ndarray, "t k a m"]]:
    """Return precision by threshold, recall point, class and size, and recall by threshold, class, size and cap.

    A detection takes the free object of its class that it overlaps most, as in COCO. One that finds none is given to
    the ignored object, or object outside the size bin, in which the largest share of it lies, where that share reaches
    the threshold; any number of detections may be. The share is computed from the overlap and the areas of the file, as
    the evaluator does: inside a crowd, whose overlap is a share already, it comes out larger than it is.

    Args:
      objects: annotations of all images, in the order of their file.
      found: detections, likewise.
      classes: how many there are.
      protocol: thresholds and caps.
      ranges: sizes that are scored.

    Returns:
      Both in [0, 1], −1 where a class has no object of a size.

    References:
      Yu et al., Scale Match for Tiny Person Detection, WACV 2020; its evaluator, `use_iod_for_ignore`.
    """
    order = np.lexsort((-found.scores, found.groups))  # stable, as their merge sort
    groups = found.groups[order]
    first = np.searchsorted(groups, groups)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - first
    kept = np.flatnonzero(place < protocol.max_detections)
    found, place = Boxes(*(column[kept] for column in found)), place[kept]

    pairs = _pairs(objects, found)
    thresholds = np.minimum(np.array(protocol.iou_thresholds), 1 - 1e-10)
    shape = (len(thresholds), classes, len(ranges))
    precision = -np.ones((shape[0], len(_RECALLS), *shape[1:]))
    recall = -np.ones((*shape, len(protocol.caps)))
    by_image = np.lexsort((place, found.groups))  # images in turn, best first, as results are joined
    by_score = by_image[np.argsort(-found.scores[by_image], kind="stable")]
    for a, size in enumerate(ranges):
        outside = (objects.areas < size.low**2) | (objects.areas > min(size.high**2, 1e10))
        counted = ~(objects.ignored | outside)
        matched, ignored = _match(pairs, found, counted, objects.crowds, thresholds)
        beyond = (found.areas < size.low**2) | (found.areas > min(size.high**2, 1e10))
        wrong = ~matched & ~ignored & ~beyond
        for k in range(classes):
            total = int(np.sum(counted & (objects.groups % classes == k)))
            if not total:
                continue
            rows = by_score[found.groups[by_score] % classes == k]
            for m, cap in enumerate(protocol.caps):
                recall[:, k, a, m] = matched[:, rows[place[rows] < cap]].sum(axis=1) / total
            for t in range(len(thresholds)):
                precision[t, :, k, a] = _precision(matched[t, rows], wrong[t, rows], total)
    return precision, recall


def _pairs(objects: Boxes, found: Boxes) -> _Pairs:
    found_of, objects_of = members(found.groups), members(objects.groups)
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for group in found_of.keys() & objects_of.keys():
        rows, columns = found_of[group], objects_of[group]
        common = common_area(found.boxes[rows], objects.boxes[columns])
        i, j = np.nonzero(common)
        area, other = found.boxes[rows, 2:].prod(axis=1)[i], objects.boxes[columns, 2:].prod(axis=1)[j]
        overlaps = common[i, j] / np.where(objects.crowds[columns[j]], area, area + other - common[i, j])
        shares = overlaps / (1 + overlaps) * (1 + objects.areas[columns[j]] / area)
        parts.append((rows[i], columns[j], overlaps, shares))
    detections, others, overlaps, shares = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(detections, kind="stable")
    counts = np.bincount(detections, minlength=len(found.groups))
    return _Pairs(np.cumsum(counts) - counts, counts, others[order], overlaps[order], shares[order])


def _match(
    pairs: _Pairs, found: Boxes, counted: np.ndarray, crowds: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Detections that are matched with an object that counts, and those that are ignored, at each threshold."""
    matched = np.zeros((len(thresholds), len(found.groups)), bool)
    ignored, taken = np.zeros_like(matched), np.zeros((len(thresholds), len(counted)), bool)
    limits = thresholds[:, None]
    for rows in turns(np.flatnonzero(pairs.counts > 0), found.groups, found.scores):
        places = np.arange(pairs.counts[rows].max())
        real = places < pairs.counts[rows, None]
        at = np.where(real, pairs.starts[rows, None] + places, 0)
        others, overlaps = pairs.objects[at], pairs.overlaps[at]
        free = real & (overlaps >= limits[..., None]) & (~taken[:, others] | crowds[others])
        right, right_best = _last_best(free & counted[others], overlaps)
        aside, aside_best = _last_best(free & ~counted[others], overlaps)
        shares = np.where(real & ~counted[others], pairs.shares[at], -1.0)
        by_share = shares.max(axis=-1) >= limits
        best = np.where(right, right_best, np.where(aside, aside_best, shares.argmax(axis=-1)))
        t, i = np.nonzero(right | aside | by_share)
        taken[t, others[i, best[t, i]]] = True
        matched[:, rows], ignored[:, rows] = right, ~right & (aside | by_share)
    return matched, ignored


def _last_best(candidates: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell for which detections there is a candidate, and its place; of equal overlaps, the last."""
    value = np.where(candidates, overlaps, -1.0)[..., ::-1]
    return np.asarray(candidates.any(axis=-1)), overlaps.shape[-1] - 1 - value.argmax(axis=-1)


def _precision(right: np.ndarray, wrong: np.ndarray, total: int) -> np.ndarray:
    """Envelope of precision at 101 recall points."""
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    envelope = np.maximum.accumulate((hits / (hits + misses + np.spacing(1)))[::-1])[::-1]
    at = np.searchsorted(hits / total, _RECALLS, side="left")
    return np.append(envelope, 0.0)[np.minimum(at, len(envelope))]
