"""Detections of all images, matched with the objects at one IoU: within a class as COCO does, or across classes."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.coco import AnnotatedDataset
from ugs_jax.evaluation.detections import ImageDetections
from ugs_jax.evaluation.greedy import assign, common_areas, find_pairs, members
from ugs_jax.evaluation.overlaps import iou, share
from ugs_jax.evaluation.protocol import DEFAULT_PROTOCOL

_NONE = np.zeros(0, np.int64)


class Objects(NamedTuple):
    """Annotations of all images. Boxes are left, top, width and height, px of the stored image.

    Attributes:
      boxes: Boxes of the objects.
      classes: Class indices of the objects.
      images: Indices of the images of the objects.
      regions: Boxes of the ignore regions. They belong to every class.
      region_images: Indices of the images of the ignore regions.
    """

    boxes: Float[np.ndarray, "g 4"]
    classes: Int[np.ndarray, " g"]
    images: Int[np.ndarray, " g"]
    regions: Float[np.ndarray, "r 4"]
    region_images: Int[np.ndarray, " r"]


class Found(NamedTuple):
    """Detections of all images. Boxes are left, top, width and height, px of the stored image.

    Attributes:
      boxes: Boxes.
      scores: Scores in [0, 1].
      classes: Class indices.
      images: Indices of the images, increasing.
      deviation: Standard deviation of each side (x1, y1, x2, y2), px; None if the objective does not predict it.
    """

    boxes: Float[np.ndarray, "d 4"]
    scores: Float[np.ndarray, " d"]
    classes: Int[np.ndarray, " d"]
    images: Int[np.ndarray, " d"]
    deviation: Float[np.ndarray, "d 4"] | None


class Matches(NamedTuple):
    """Match of each detection.

    Attributes:
      objects: Index of the matched object; −1 for a detection without a match.
      ignored: True for detections without a match that lie in an ignore region. They count neither as right nor wrong.
    """

    objects: Int[np.ndarray, " d"]
    ignored: Bool[np.ndarray, " d"]

    @property
    def right(self) -> Bool[np.ndarray, " d"]:
        """True for detections that match an object."""
        return self.objects >= 0


def all_objects(dataset: AnnotatedDataset) -> Objects:
    """Return the annotations of a data set in flat arrays."""
    boxes, classes, regions = [np.zeros((0, 4), np.float32)], [_NONE], [np.zeros((0, 4), np.float32)]
    for index in range(len(dataset)):
        example = dataset.annotations(index)
        boxes.append(example.boxes)
        classes.append(np.asarray(example.classes, np.int64))
        regions.append(example.ignore)
    return Objects(
        _left_top_sides(np.concatenate(boxes).astype(np.float64)),
        np.concatenate(classes),
        np.repeat(np.arange(len(dataset)), [len(part) for part in boxes[1:]]),
        _left_top_sides(np.concatenate(regions).astype(np.float64)),
        np.repeat(np.arange(len(dataset)), [len(part) for part in regions[1:]]),
    )


def all_detections(
    images: Iterable[tuple[int, ImageDetections]], classes: int, max_detections: int = DEFAULT_PROTOCOL.max_detections
) -> Found:
    """Return the detections of all images in flat arrays, without boxes that have no area.

    Args:
      images: Index and detections of each image, px of the stored image.
      classes: Number of classes.
      max_detections: Largest number of detections per image and class; those with the highest scores are kept.

    Raises:
      ValueError: A class index is not below `classes`.
    """
    images = sorted(images, key=lambda entry: entry[0])
    empty = ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    parts = [empty, *(found for _, found in images)]
    labels = np.concatenate([part.classes for part in parts]).astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"detections: expected class indices 0…{classes - 1}, got {labels.min()}…{labels.max()}; use a detector "
            "with the classes of the data set"
        )
    deviations = [part.deviation for part in parts[1:] if part.deviation is not None]
    found = Found(
        _left_top_sides(np.concatenate([part.boxes for part in parts])).astype(np.float64),
        np.concatenate([part.scores for part in parts]).astype(np.float64),
        labels,
        np.repeat(np.array([index for index, _ in images], np.int64), [len(part.scores) for part in parts[1:]]),
        np.concatenate(deviations) if images and len(deviations) == len(images) else None,
    )
    groups = found.images * classes + found.classes
    kept = (_ranks(groups, found.scores) < max_detections) & (found.boxes[:, 2:] > 0).all(axis=1)
    return Found._make(None if part is None else part[kept] for part in found)


def match_in_class(objects: Objects, found: Found, classes: int, min_iou: float = 0.5) -> Matches:
    """Match detections with objects of their class, by the rules of COCO.

    Detections choose in order of their scores. Each takes, among the free objects of its class in its image, the one
    that it overlaps most. A detection without a match is ignored if the share of its area inside one ignore region
    reaches `min_iou`. A lower limit on the scores removes detections and leaves the matches of the others unchanged.

    Args:
      objects: Objects of all images.
      found: Detections of all images.
      classes: Number of classes.
      min_iou: Least IoU of a match.
    """
    every = np.arange(classes)
    region_groups = (objects.region_images[:, None] * classes + every).ravel()
    groups = found.images * classes + found.classes
    pairs = find_pairs(
        found.boxes,
        groups,
        np.concatenate([objects.boxes, np.repeat(objects.regions, classes, axis=0)]),
        np.concatenate([objects.images * classes + objects.classes, region_groups]),
        np.arange(len(objects.boxes) + len(region_groups)) < len(objects.boxes),
        min_iou,
    )
    (matched,) = assign(pairs, np.ones(len(groups), bool), groups, found.scores, np.array([min_iou]))
    return Matches(matched, (matched < 0) & (pairs.absorbed >= min_iou))


def match_any_class(objects: Objects, found: Found, min_iou: float = 0.5) -> Matches:
    """Match detections with objects of any class, the pair with the highest IoU first.

    Among pairs of equal IoU, the detection with the higher score comes first. A detection without a match is ignored if
    the share of its area inside one ignore region reaches `min_iou`.

    Args:
      objects: Objects of all images.
      found: Detections of all images.
      min_iou: Least IoU of a match.
    """
    matched, ignored = np.full(len(found.scores), -1, np.int64), np.zeros(len(found.scores), bool)
    objects_of, regions_of = members(objects.images), members(objects.region_images)
    for image, rows in members(found.images).items():
        boxes, columns = found.boxes[rows], objects_of.get(image, _NONE)
        shared, area = common_areas(boxes, objects.boxes[columns]), boxes[:, 2:].prod(axis=1)[:, None]
        overlaps = iou(shared, area, objects.boxes[columns, 2:].prod(axis=1))
        i, j = np.nonzero(overlaps >= min_iou)
        order = np.lexsort((-found.scores[rows[i]], -overlaps[i, j]))
        taken: set[int] = set()
        for row, column in zip(rows[i[order]].tolist(), columns[j[order]].tolist(), strict=True):
            if matched[row] < 0 and column not in taken:
                matched[row] = column
                taken.add(column)
        inside = share(common_areas(boxes, objects.regions[regions_of.get(image, _NONE)]), area)
        ignored[rows] = (matched[rows] < 0) & (inside.max(axis=1, initial=0.0) >= min_iou)
    return Matches(matched, ignored)


def above(found: Found, confidence: float) -> Found:
    """Return the detections with a score of at least `confidence`."""
    kept = found.scores >= confidence
    return Found._make(None if part is None else part[kept] for part in found)


def _ranks(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the rank of each detection in its group, 0 for the best score."""
    order = np.lexsort((-scores, groups))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    return ranks


def _left_top_sides(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
