"""Official protocol of VisDrone-DET in NumPy, with all details of its toolkit."""

import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.greedy import find_pairs, match, members
from ugs_jax.evaluation.ignored import inside_ignored
from ugs_jax.evaluation.results import CocoRow

CAPS = (1, 10, 100, 500)
"""Numbers of detections per image at which recall is reported; precision uses the last."""
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""IoU thresholds."""
DESCRIPTION = (
    "VisDrone-DET official: boxes with half their area in ignored regions dropped; first 500 rows of an image over "
    "all classes (ar1, ar10, ar100: first 1, 10, 100), each class matched greedily by score, IoU 0.50:0.05:0.95; boxes "
    "with score 0 absorb detections but count as missed; exact area under the envelope. ap, ap50, ap75, ar…: mean over "
    "classes weighted by the images that contain them, as published. macro_…: the same with every class once"
)


class TruthImage(typing.NamedTuple):
    """Annotations of one image in the columns of VisDrone's files.

    Attributes:
      boxes: Left, top, width and height, px.
      categories: 0 for an ignored region, class index + 1 for an object. Larger numbers mark objects of no class
        (`others`).
      scored: False where the file has score 0.
      size: Height and width of the image, px; None if no box reaches beyond the image.
    """

    boxes: Float[np.ndarray, "n 4"]
    categories: Int[np.ndarray, " n"]
    scored: Bool[np.ndarray, " n"]
    size: tuple[int, int] | None = None


class ClassTable(typing.NamedTuple):
    """Precision and recall by class, from which the scores are averaged.

    Attributes:
      precision: Average precision by class and IoU threshold, in [0, 1].
      recall: Recall by class, IoU threshold and cap, in [0, 1].
      images: Number of images that contain the class.
    """

    precision: Float[np.ndarray, "classes thresholds"]
    recall: Float[np.ndarray, "classes thresholds caps"]
    images: Int[np.ndarray, " classes"]


def visdrone_table(truth: Sequence[TruthImage], rows: Sequence[CocoRow], classes: int) -> ClassTable:
    """Return average precision and recall by class.

    1. In an image with ignored regions, objects and detections with at least half of their area inside are dropped.
    2. Of the remaining detections, the first 1, 10, 100 or 500 rows of an image are kept, over all classes.
    3. Each class is matched greedily at each threshold. An unmatched detection is ignored if at least that share of its
       area lies inside a box of the class with score 0. Such a box still counts in the denominator of recall.
    4. Average precision is the exact area under the envelope of precision over recall, of 500 rows.
    5. Detections on `others` are wrong.

    Among equal scores, the earlier image and row comes first. The toolkit's Python port uses an unstable sort instead.

    Args:
      truth: Annotations of the images.
      rows: Detections. `image_id` is an index into `truth`. The order of rows of an image decides which are kept.
        Detections of other categories than the classes take part in step 2 only.
      classes: Number of classes.

    Raises:
      ValueError: A row has an `image_id` that is not an index into `truth`.

    References:
      Zhu et al., Detection and Tracking Meet Drones Challenge, TPAMI 2021;
      github.com/VisDrone/VisDrone2018-DET-toolkit.
    """
    objects, detections = _objects(truth, classes), _detections(truth, rows, classes)
    thresholds = np.array(THRESHOLDS)
    pairs = find_pairs(
        detections.boxes, detections.groups, objects.boxes, objects.groups, objects.scored, THRESHOLDS[0]
    )
    right_by_cap = [
        match(pairs, detections.ranks < cap, detections.groups, detections.scores, thresholds) for cap in CAPS
    ]
    wrong = ~right_by_cap[-1] & (pairs.absorbed < thresholds[:, None]) & (detections.ranks < CAPS[-1])
    precision, recall = np.zeros((classes, len(thresholds))), np.zeros((classes, len(thresholds), len(CAPS)))
    order = np.argsort(-detections.scores, kind="stable")
    total = np.bincount(objects.groups % classes, minlength=classes)
    for k in range(classes):
        of_class = order[detections.groups[order] % classes == k]
        precision[k] = average_precision(right_by_cap[-1][:, of_class], wrong[:, of_class], int(total[k]))
        recall[k] = np.stack([right[:, of_class].sum(axis=1) for right in right_by_cap], -1) / max(1, total[k])
    return ClassTable(precision, recall, np.bincount(np.unique(objects.groups) % classes, minlength=classes))


def average_precision(
    right: Bool[np.ndarray, "t n"], wrong: Bool[np.ndarray, "t n"], objects: int
) -> Float[np.ndarray, " t"]:
    """Return the exact area under precision over recall, with each precision raised to the highest at a larger recall.

    Args:
      right: Mask of matched detections at each threshold, best score first.
      wrong: Mask of wrong detections. Detections that are neither right nor wrong do not count.
      objects: Number of objects, the denominator of recall.
    """
    hits, misses = np.cumsum(right, axis=1), np.cumsum(wrong, axis=1)
    precision = hits / np.maximum(1, hits + misses)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.where(right, envelope, 0.0).sum(axis=1)) / max(1, objects)


def visdrone_scores(table: ClassTable, names: Sequence[str]) -> dict[str, float | None]:
    """Return the scores by name.

    Args:
      table: Precision and recall from `visdrone_table`.
      names: Class names.

    Returns:
      `ap`, `ap50`, `ap75`, `ar1`, `ar10`, `ar100`, `ar500`: official means, in which a class counts once for each image
      that contains it. `macro_ap` and so on: means in which each class that occurs counts once. `ap/<class>` and so on:
      scores of a class. All are in [0, 1], or None if there is no object.
    """
    by_class = {"ap": table.precision.mean(axis=1)}
    by_class |= {f"ap{round(100 * t)}": table.precision[:, THRESHOLDS.index(t)] for t in (0.5, 0.75)}
    by_class |= {f"ar{cap}": table.recall[..., k].mean(axis=1) for k, cap in enumerate(CAPS)}
    scores = {key: _mean(values, table.images) for key, values in by_class.items()}
    scores |= {f"macro_{key}": _mean(values, np.sign(table.images)) for key, values in by_class.items()}
    for key, values in by_class.items():
        for name, value, images in zip(names, values, table.images, strict=True):
            scores[f"{key}/{name}"] = float(value) if images else None
    return scores


class _Objects(typing.NamedTuple):
    boxes: np.ndarray  # left, top, width, height
    groups: np.ndarray  # image · classes + class index
    scored: np.ndarray


class _Detections(typing.NamedTuple):
    boxes: np.ndarray  # left, top, width, height
    groups: np.ndarray  # image · classes + class index
    scores: np.ndarray
    ranks: np.ndarray  # position among the rows of the image


def _objects(truth: Sequence[TruthImage], classes: int) -> _Objects:
    """Return the objects of the classes outside ignored regions, over all images."""
    parts = [_Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))]
    for image, annotated in enumerate(truth):
        kept = np.flatnonzero((annotated.categories >= 1) & (annotated.categories <= classes))
        kept = kept[~inside_ignored(annotated.boxes[kept], _regions(annotated), annotated.size)]
        groups = image * classes + annotated.categories[kept].astype(np.int64) - 1
        parts.append(_Objects(annotated.boxes[kept], groups, annotated.scored[kept]))
    return _Objects(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _detections(truth: Sequence[TruthImage], rows: Sequence[CocoRow], classes: int) -> _Detections:
    """Return the detections of the classes outside ignored regions, by image and row."""
    for row in rows:
        if not 0 <= row["image_id"] < len(truth):
            raise ValueError(
                f"image_id {row['image_id']}: expected the index of one of {len(truth)} images, 0…{len(truth) - 1}; "
                "score on the images of the detections"
            )
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    categories = np.array([row["category_id"] for row in rows], np.int64)
    scores = np.array([row["score"] for row in rows], np.float64)
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for image, index in members(np.array([row["image_id"] for row in rows], np.int64)).items():
        index = index[~inside_ignored(boxes[index], _regions(truth[image]), truth[image].size)]
        of_class = (categories[index] >= 1) & (categories[index] <= classes)
        groups = image * classes + categories[index] - 1
        parts.append((index[of_class], groups[of_class], np.flatnonzero(of_class)))
    kept, groups, ranks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Detections(boxes[kept], groups, scores[kept], ranks)


def _regions(annotated: TruthImage) -> np.ndarray:
    return annotated.boxes[annotated.categories == 0]


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    return float(np.average(values, weights=weights)) if weights.any() else None
