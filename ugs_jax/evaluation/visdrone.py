"""The official protocol of VisDrone-DET, quirks included, in NumPy."""

import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.greedy import find_pairs, match
from ugs_jax.evaluation.ignored import inside_ignored

CAPS = (1, 10, 100, 500)
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
DESCRIPTION = (
    "VisDrone-DET official: boxes with half their area in ignored regions dropped; first 500 rows of an image over "
    "all classes (ar1, ar10, ar100: first 1, 10, 100), each class matched greedily by score, IoU 0.50:0.05:0.95; boxes "
    "with score 0 absorb detections but count as missed; exact area under the envelope. ap, ap50, ap75, ar…: mean over "
    "classes weighted by the images that contain them, as published. macro_…: the same with every class once"
)


class TruthImage(typing.NamedTuple):
    """The annotations of one image, as VisDrone's files have them.

    Attributes:
      boxes: left, top, width, height, px.
      categories: 0 for an ignored region, 1 to the number of classes; more for objects of no class (`others`).
      scored: False where the file has score 0.
      size: height and width, px; None where nothing reaches beyond the image.
    """

    boxes: Float[np.ndarray, "n 4"]
    categories: Int[np.ndarray, " n"]
    scored: Bool[np.ndarray, " n"]
    size: tuple[int, int] | None = None


class FoundImage(typing.NamedTuple):
    """The detections of one image: boxes left, top, width, height px; categories from 1; in the order of their file."""

    boxes: Float[np.ndarray, "n 4"]
    categories: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]


class ClassTable(typing.NamedTuple):
    """What the scores are means of.

    Attributes:
      precision: average precision by class and IoU threshold, in [0, 1].
      recall: by class, threshold and cap.
      images: how many contain the class.
    """

    precision: Float[np.ndarray, "classes thresholds"]
    recall: Float[np.ndarray, "classes thresholds caps"]
    images: Int[np.ndarray, " classes"]


def visdrone_table(truth: Sequence[TruthImage], found: Sequence[FoundImage], classes: int) -> ClassTable:
    """Average precision and recall by class.

    1. In an image with ignored regions, objects and detections with at least half of their area inside are dropped.
    2. Of what is left, the first 1, 10, 100 or 500 rows of an image are kept, over all classes.
    3. Each class is matched greedily at each threshold. What then has at least that share of its area inside a box of
       the class with score 0 is neither right nor wrong; that box still counts in recall's denominator.
    4. Average precision is the exact area under the envelope of precision over recall, of 500 rows.
    5. What is found on `others` is wrong.

    Of equal scores the earlier image and row comes first. The toolkit's Python port leaves that to an unstable sort.

    Args:
      truth: the images.
      found: their detections.
      classes: how many there are.

    Raises:
      ValueError: not one entry of `found` for each of `truth`.

    References:
      Zhu et al., Detection and Tracking Meet Drones Challenge, TPAMI 2021;
      github.com/VisDrone/VisDrone2018-DET-toolkit.
    """
    if len(truth) != len(found):
        raise ValueError(
            f"expected detections for each of {len(truth)} images, got {len(found)}; give an empty entry to an image "
            "without any"
        )
    objects, detections = _flatten(truth, found, classes)
    thresholds = np.array(THRESHOLDS)
    pairs = find_pairs(
        detections.boxes, detections.groups, objects.boxes, objects.groups, objects.scored, THRESHOLDS[0]
    )
    right_by_cap = [
        match(pairs, detections.places < cap, detections.groups, detections.scores, thresholds) for cap in CAPS
    ]
    wrong = ~right_by_cap[-1] & (pairs.absorbed < thresholds[:, None]) & (detections.places < CAPS[-1])
    precision, recall = np.zeros((classes, len(thresholds))), np.zeros((classes, len(thresholds), len(CAPS)))
    order = np.argsort(-detections.scores, kind="stable")
    total = np.bincount(objects.groups % classes, minlength=classes)
    for label in range(classes):
        rows = order[detections.groups[order] % classes == label]
        precision[label] = average_precision(right_by_cap[-1][:, rows], wrong[:, rows], int(total[label]))
        recall[label] = np.stack([right[:, rows].sum(axis=1) for right in right_by_cap], -1) / max(1, total[label])
    return ClassTable(precision, recall, np.bincount(np.unique(objects.groups) % classes, minlength=classes))


def average_precision(
    right: Bool[np.ndarray, "t n"], wrong: Bool[np.ndarray, "t n"], objects: int
) -> Float[np.ndarray, " t"]:
    """Exact area under precision over recall, each precision raised to the highest at any larger recall.

    Args:
      right: detections that are matched, best score first, at each threshold.
      wrong: those that are not; what is neither counts for nothing.
      objects: that recall is divided by.
    """
    hits, misses = np.cumsum(right, axis=1), np.cumsum(wrong, axis=1)
    precision = hits / np.maximum(1, hits + misses)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.where(right, envelope, 0.0).sum(axis=1)) / max(1, objects)


def visdrone_scores(table: ClassTable, names: Sequence[str]) -> dict[str, float | None]:
    """Scores by name.

    Args:
      table: from `visdrone_table`.
      names: of the classes.

    Returns:
      `ap`, `ap50`, `ap75`, `ar1`, `ar10`, `ar100`, `ar500`: official, a class counts once for each image that contains
      it; `macro_ap` and its like: each class that occurs counts once; `ap/<class>` and its like. All in [0, 1], None
      where there is no object.
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
    boxes: np.ndarray
    groups: np.ndarray  # image · classes + label
    scored: np.ndarray


class _Detections(typing.NamedTuple):
    boxes: np.ndarray
    groups: np.ndarray
    scores: np.ndarray
    places: np.ndarray  # row in its image


def _flatten(truth: Sequence[TruthImage], found: Sequence[FoundImage], classes: int) -> tuple[_Objects, _Detections]:
    """What ignored regions leave, of the classes, over all images."""
    objects = [_Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))]
    detections = [_Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))]
    for image, (annotated, detected) in enumerate(zip(truth, found, strict=True)):
        regions = annotated.boxes[annotated.categories == 0]
        counts = (annotated.categories >= 1) & (annotated.categories <= classes)
        counts[counts] = ~inside_ignored(annotated.boxes[counts], regions, annotated.size)
        groups = image * classes + annotated.categories[counts].astype(np.int64) - 1
        objects.append(_Objects(annotated.boxes[counts], groups, annotated.scored[counts]))

        kept = np.flatnonzero(~inside_ignored(detected.boxes, regions, annotated.size))
        places = np.arange(len(kept))
        of_class = (detected.categories[kept] >= 1) & (detected.categories[kept] <= classes)
        kept, places = kept[of_class], places[of_class]
        groups = image * classes + detected.categories[kept].astype(np.int64) - 1
        detections.append(_Detections(detected.boxes[kept], groups, detected.scores[kept], places))
    return (
        _Objects(*(np.concatenate(part) for part in zip(*objects, strict=True))),
        _Detections(*(np.concatenate(part) for part in zip(*detections, strict=True))),
    )


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    return float(np.average(values, weights=weights)) if weights.any() else None
