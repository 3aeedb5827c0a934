"""Diagnosis of a detector on annotated images: curves, sizes, confusion, worst images and calibration, in one value."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from data_pipeline import Dataset
from ugs_jax.evaluation import DEFAULT_PROTOCOL, ImageDetections, SizeBin
from ugs_jax.evaluation.confusion import confusion_matrix, errors_by_image, missed
from ugs_jax.evaluation.curves import Curve, average_precision_101, precision_recall, thinned
from ugs_jax.evaluation.matching import (
    Found,
    Matches,
    Objects,
    above,
    all_detections,
    all_objects,
    match_any_class,
    match_in_class,
)
from ugs_jax.evaluation.reliability import Reliability, reliability
from ugs_jax.inference import Calibration, SideErrors, calibration

IOU = 0.5
"""Least IoU of a match."""
LEAST_SCORE = 0.05
"""Score that a detection has to exceed to count in the calibration."""
FALLBACK = 0.25
"""Confidence of a detector without a right detection, for which F1 chooses none."""
_WORST, _DRAWN = 12, 6


class ClassDiagnosis(NamedTuple):
    """Detections of one class, or of all classes together.

    Attributes:
      name: Name of the class.
      objects: Number of objects.
      ap50: Average precision at IoU .5 and 101 recalls; None without objects.
      best_confidence: Confidence with the highest F1 of this class; None without a right detection.
      precision: Precision at the confidence of the diagnosis; None without detections.
      recall: Recall at the confidence of the diagnosis; None without objects.
      f1: F1 at the confidence of the diagnosis; None without objects.
      curve: Precision, recall and F1 over the confidence, thinned.
    """

    name: str
    objects: int
    ap50: float | None
    best_confidence: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    curve: Curve


class SizeDiagnosis(NamedTuple):
    """Objects of one size.

    Attributes:
      name: Name of the size bin, as in `ap_<name>`.
      low: Least √area, px of the stored image.
      high: Largest √area, px.
      objects: Number of objects.
      found: Number of objects that a detection of their class matches at the confidence of the diagnosis.
    """

    name: str
    low: float
    high: float
    objects: int
    found: int


class Outcome(NamedTuple):
    """One object or detection of an image.

    Attributes:
      kind: `right`, `confused`, `missed` or `false`.
      box: Left, top, right and bottom of the detection, or of the missed object, px of the stored image.
      name: Class of the detection, or of the missed object.
      truth: Class of the object; None for a false detection.
      score: Score of the detection; None for a missed object.
    """

    kind: str
    box: tuple[float, float, float, float]
    name: str
    truth: str | None
    score: float | None


class WorstImage(NamedTuple):
    """Errors of one image at the confidence of the diagnosis.

    Attributes:
      image: Index of the image in the split.
      file_name: Name of the image file.
      right: Number of objects that are detected as their class.
      confused: Number of objects that are detected as another class.
      missed: Number of objects that match no detection.
      false: Number of detections that match no object.
      outcomes: All objects and detections; empty except for the first images.
    """

    image: int
    file_name: str
    right: int
    confused: int
    missed: int
    false: int
    outcomes: tuple[Outcome, ...]


class Diagnosis(NamedTuple):
    """Errors of a detector on the images of a split.

    Attributes:
      measured: Description of the images and of the checkpoint.
      images: Number of images.
      confidence: Confidence with the highest F1 over all classes together.
      overall: Detections of all classes together.
      classes: Detections of each class.
      sizes: Objects by size.
      confusion: Numbers of objects (rows) that are detected as each class (columns); background is last.
      worst: Images with errors, most errors first.
      reliability: Calibration of the scores.
      deviations: Calibration of the deviations of box sides; None if the objective predicts none, or nothing matches.
    """

    measured: str
    images: int
    confidence: float
    overall: ClassDiagnosis
    classes: tuple[ClassDiagnosis, ...]
    sizes: tuple[SizeDiagnosis, ...]
    confusion: tuple[tuple[int, ...], ...]
    worst: tuple[WorstImage, ...]
    reliability: Reliability
    deviations: Calibration | None


def diagnose(
    dataset: Dataset,
    images: Iterable[tuple[int, ImageDetections]],
    measured: str = "",
    sizes: Sequence[SizeBin] = DEFAULT_PROTOCOL.size_bins,
) -> Diagnosis:
    """Diagnose detections. The network is not needed.

    Curves match detections with objects of their class, by the rules of COCO at IoU .5. The confusion matrix and the
    errors of images match across classes, the highest IoU first. They count detections above the confidence that gives
    the highest F1 over all classes together.

    Args:
      dataset: Annotated images.
      images: Index and detections of each image, px of the stored image, with scores down to about .001. Images without
        detections may be left out.
      measured: Description of the images and of the checkpoint.
      sizes: Size bins.

    Raises:
      ValueError: A class index is not a class of the data set.
    """
    count = len(dataset.classes)
    objects, found = all_objects(dataset), all_detections(images, count)
    matches = match_in_class(objects, found, count, IOU)
    counted = ~matches.ignored
    whole = precision_recall(found.scores[counted], matches.right[counted], len(objects.boxes))
    confidence = FALLBACK if whole.best is None else float(whole.confidence[whole.best])
    strong = above(found, confidence)
    across = match_any_class(objects, strong, IOU)
    used = counted & (found.scores > LEAST_SCORE)
    return Diagnosis(
        measured=measured,
        images=len(dataset),
        confidence=confidence,
        overall=_class("all classes", whole, len(objects.boxes), confidence),
        classes=tuple(
            _class_of(objects, found, matches, k, name, confidence) for k, name in enumerate(dataset.classes)
        ),
        sizes=_sizes(objects, found, matches, confidence, sizes),
        confusion=tuple(map(tuple, confusion_matrix(objects, strong, across, count).tolist())),
        worst=_worst(dataset, objects, strong, across),
        reliability=reliability(found.scores[used], matches.right[used]),
        deviations=_deviations(objects, found, matches),
    )


def _class_of(objects: Objects, found: Found, matches: Matches, k: int, name: str, confidence: float) -> ClassDiagnosis:
    of_class: Bool[np.ndarray, " d"] = (found.classes == k) & ~matches.ignored
    total = int(np.sum(objects.classes == k))
    curve = precision_recall(found.scores[of_class], matches.right[of_class], total)
    return _class(name, curve, total, confidence)


def _class(name: str, curve: Curve, objects: int, confidence: float) -> ClassDiagnosis:
    at = int(np.searchsorted(-curve.confidence, -confidence, side="right")) - 1  # the lowest score that is high enough
    at_confidence = lambda values: float(values[at]) if at >= 0 else 0.0  # noqa: E731
    return ClassDiagnosis(
        name=name,
        objects=objects,
        ap50=average_precision_101(curve) if objects else None,
        best_confidence=None if curve.best is None else float(curve.confidence[curve.best]),
        precision=float(curve.precision[at]) if at >= 0 else None,
        recall=at_confidence(curve.recall) if objects else None,
        f1=at_confidence(curve.f1) if objects else None,
        curve=thinned(curve),
    )


def _sizes(
    objects: Objects, found: Found, matches: Matches, confidence: float, sizes: Sequence[SizeBin]
) -> tuple[SizeDiagnosis, ...]:
    hit = np.zeros(len(objects.boxes), bool)
    hit[matches.objects[matches.right & (found.scores >= confidence)]] = True
    area = objects.boxes[:, 2:].prod(axis=1)
    inside = [(area >= size.low**2) & (area <= size.high**2) for size in sizes]
    return tuple(
        SizeDiagnosis(size.name, size.low, size.high, int(mask.sum()), int(hit[mask].sum()))
        for size, mask in zip(sizes, inside, strict=True)
    )


def _worst(dataset: Dataset, objects: Objects, found: Found, matches: Matches) -> tuple[WorstImage, ...]:
    errors = errors_by_image(objects, found, matches, len(dataset))
    order = np.argsort(-errors.total, kind="stable")[:_WORST]
    return tuple(
        WorstImage(
            image=image,
            file_name=dataset.file_names[image],
            right=int(errors.right[image]),
            confused=int(errors.confused[image]),
            missed=int(errors.missed[image]),
            false=int(errors.false[image]),
            outcomes=_outcomes(dataset.classes, objects, found, matches, image) if rank < _DRAWN else (),
        )
        for rank, image in enumerate(order.tolist())
        if errors.total[image]
    )


def _outcomes(
    classes: Sequence[str], objects: Objects, found: Found, matches: Matches, image: int
) -> tuple[Outcome, ...]:
    """Return all objects and detections of an image, except for ignored detections."""
    outcomes = []
    lost = missed(objects, matches)
    for i in lost[objects.images[lost] == image].tolist():
        name = classes[objects.classes[i]]
        outcomes.append(Outcome("missed", _corners(objects.boxes[i]), name, name, None))
    for i in np.flatnonzero((found.images == image) & ~matches.ignored).tolist():
        name, match = classes[found.classes[i]], int(matches.objects[i])
        truth = classes[objects.classes[match]] if match >= 0 else None
        kind = "false" if truth is None else "right" if truth == name else "confused"
        outcomes.append(Outcome(kind, _corners(found.boxes[i]), name, truth, float(found.scores[i])))
    return tuple(outcomes)


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, width, height = (float(side) for side in box)
    return left, top, left + width, top + height


def _deviations(objects: Objects, found: Found, matches: Matches) -> Calibration | None:
    rows = np.flatnonzero(matches.right & (found.scores > LEAST_SCORE))
    if found.deviation is None or not len(rows):
        return None
    difference = found.boxes[rows] - objects.boxes[matches.objects[rows]]
    difference[:, 2:] += difference[:, :2]  # from width and height to right and bottom
    return calibration([SideErrors(difference, found.deviation[rows])])
