"""COCO average precision with TinyPerson's rule: unmatched detections are also ignored by share of their area."""

import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.greedy import common_areas, members, turns
from ugs_jax.evaluation.overlaps import iou, share
from ugs_jax.evaluation.protocol import Protocol, SizeBin

_RECALLS = np.linspace(0.0, 1.0, 101)


class Boxes(typing.NamedTuple):
    """Objects or detections of all images.

    Attributes:
      boxes: Left, top, width and height, px.
      groups: Image · classes + class index.
      areas: Areas, px².
      scores: Scores of detections; 0 for objects.
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
    """Pairs of a detection and an object that overlap: detection i has `starts[i]:starts[i] + counts[i]`."""

    starts: np.ndarray
    counts: np.ndarray
    objects: np.ndarray
    overlaps: np.ndarray  # IoU; for crowds, share of the detection
    shares: np.ndarray


def evaluate_by_share(
    objects: Boxes, detections: Boxes, classes: int, protocol: Protocol, ranges: Sequence[SizeBin]
) -> tuple[Float[np.ndarray, "t r k a"], Float[np.ndarray, "t k a m"]]:
    """Return precision by threshold, recall point, class and size, and recall by threshold, class, size and cap.

    1. A detection takes the free object of its class that it overlaps most, as in COCO.
    2. Among the ignored objects and those outside the size bin, an unmatched detection is assigned to the one that
       contains the largest share of it, if that share reaches the threshold. Such an object takes any number of
       detections.
    3. As in the evaluator, the share is computed from the overlap and the areas of the file. For a crowd, whose overlap
       is already a share, the result is too large.

    Args:
      objects: Annotations of all images, in the order of their file.
      detections: Detections of all images, in the order of their file.
      classes: Number of classes.
      protocol: Thresholds and caps.
      ranges: Sizes that are scored.

    Returns:
      Precision and recall in [0, 1]; −1 if a class has no object of a size.

    References:
      Yu et al., Scale Match for Tiny Person Detection, WACV 2020; its evaluator, `use_iod_for_ignore`.
    """
    order = np.lexsort((-detections.scores, detections.groups))  # stable, like the merge sort of the evaluator
    groups = detections.groups[order]
    first = np.searchsorted(groups, groups)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - first
    kept = np.flatnonzero(rank < protocol.max_detections)
    detections, rank = Boxes(*(column[kept] for column in detections)), rank[kept]

    pairs = _pairs(objects, detections)
    thresholds = np.minimum(np.array(protocol.iou_thresholds), 1 - 1e-10)
    shape = (len(thresholds), classes, len(ranges))
    precision = -np.ones((shape[0], len(_RECALLS), *shape[1:]))
    recall = -np.ones((*shape, len(protocol.caps)))
    by_image = np.lexsort((rank, detections.groups))  # image by image, best first: the evaluator's order
    by_score = by_image[np.argsort(-detections.scores[by_image], kind="stable")]
    for a, size in enumerate(ranges):
        outside = (objects.areas < size.low**2) | (objects.areas > min(size.high**2, 1e10))
        counted = ~(objects.ignored | outside)
        matched, ignored = _match(pairs, detections, counted, objects.crowds, thresholds)
        beyond = (detections.areas < size.low**2) | (detections.areas > min(size.high**2, 1e10))
        wrong = ~matched & ~ignored & ~beyond
        for k in range(classes):
            total = int(np.sum(counted & (objects.groups % classes == k)))
            if not total:
                continue
            rows = by_score[detections.groups[by_score] % classes == k]
            for m, cap in enumerate(protocol.caps):
                recall[:, k, a, m] = matched[:, rows[rank[rows] < cap]].sum(axis=1) / total
            for t in range(len(thresholds)):
                precision[t, :, k, a] = _precision(matched[t, rows], wrong[t, rows], total)
    return precision, recall


def _pairs(objects: Boxes, detections: Boxes) -> _Pairs:
    detections_of, objects_of = members(detections.groups), members(objects.groups)
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for group in detections_of.keys() & objects_of.keys():
        rows, columns = detections_of[group], objects_of[group]
        every = common_areas(detections.boxes[rows], objects.boxes[columns])
        i, j = np.nonzero(every)
        shared, area = every[i, j], detections.boxes[rows, 2:].prod(axis=1)[i]
        other_area = objects.boxes[columns, 2:].prod(axis=1)[j]
        overlaps = np.where(objects.crowds[columns[j]], share(shared, area), iou(shared, area, other_area))
        shares = overlaps / (1 + overlaps) * (1 + objects.areas[columns[j]] / area)
        parts.append((rows[i], columns[j], overlaps, shares))
    firsts, others, overlaps, shares = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(firsts, kind="stable")
    counts = np.bincount(firsts, minlength=len(detections.groups))
    return _Pairs(np.cumsum(counts) - counts, counts, others[order], overlaps[order], shares[order])


def _match(
    pairs: _Pairs, detections: Boxes, counted: np.ndarray, crowds: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of detections that match an object that counts, and of ignored ones, at each threshold."""
    matched = np.zeros((len(thresholds), len(detections.groups)), bool)
    ignored, taken = np.zeros_like(matched), np.zeros((len(thresholds), len(counted)), bool)
    limits = thresholds[:, None]
    for rows in turns(np.flatnonzero(pairs.counts > 0), detections.groups, detections.scores):
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
    """Return which detections have a candidate, and the index of the best; among equal overlaps, the last."""
    value = np.where(candidates, overlaps, -1.0)[..., ::-1]
    return np.asarray(candidates.any(axis=-1)), overlaps.shape[-1] - 1 - value.argmax(axis=-1)


def _precision(right: np.ndarray, wrong: np.ndarray, total: int) -> np.ndarray:
    """Return the envelope of precision at 101 recall points."""
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    envelope = np.maximum.accumulate((hits / (hits + misses + np.spacing(1)))[::-1])[::-1]
    at = np.searchsorted(hits / total, _RECALLS, side="left")
    return np.append(envelope, 0.0)[np.minimum(at, len(envelope))]
