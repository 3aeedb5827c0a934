"""Detections of one image as objects of supervision and FiftyOne, and back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ugs_jax.evaluation.detections import ImageDetections

if TYPE_CHECKING:
    import fiftyone
    import supervision


def to_supervision(detections: ImageDetections, classes: Sequence[str]) -> "supervision.Detections":
    """Return detections for supervision (https://supervision.roboflow.com), which must be installed.

    Class names are in `data["class_name"]`, where supervision's annotators find them. Deviations [n, 4] are in
    `data["deviation"]`.

    Args:
      detections: Detections of an image.
      classes: Class names.

    Raises:
      ModuleNotFoundError: supervision is not installed.
    """
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise _missing("supervision", error) from error
    data: dict[str, Any] = {"class_name": np.array([classes[k] for k in detections.classes], dtype=str)}
    if detections.deviation is not None:
        data["deviation"] = detections.deviation
    return supervision.Detections(
        xyxy=detections.boxes, confidence=detections.scores, class_id=detections.classes.astype(int), data=data
    )


def from_supervision(detections: "supervision.Detections") -> ImageDetections:
    """Return the detections of supervision, for example after its filters or its tracker.

    Raises:
      ValueError: The detections have no class indices or no confidences.
    """
    if detections.class_id is None or detections.confidence is None:
        missing = "class_id" if detections.class_id is None else "confidence"
        raise ValueError(f"detections.{missing}: expected an array, got None; set class_id and confidence")
    deviation = detections.data.get("deviation")
    return ImageDetections(
        np.asarray(detections.xyxy, np.float32).reshape(-1, 4),
        np.asarray(detections.confidence, np.float32),
        np.asarray(detections.class_id, np.int32),
        None if deviation is None else np.asarray(deviation, np.float32).reshape(-1, 4),
    )


def to_fiftyone(detections: ImageDetections, classes: Sequence[str], height: int, width: int) -> "fiftyone.Detections":
    """Return detections for FiftyOne (https://docs.voxel51.com), which must be installed. No database is needed.

    FiftyOne stores boxes as shares of the image: left, top, width and height. Deviations are in the attribute
    `deviation`, px.

    Args:
      detections: Detections of an image.
      classes: Class names.
      height: Height of the image, px.
      width: Width of the image, px.

    Raises:
      ModuleNotFoundError: fiftyone is not installed.
    """
    try:
        import fiftyone
    except ModuleNotFoundError as error:
        raise _missing("fiftyone", error) from error
    corners = detections.boxes.astype(np.float64) / [width, height, width, height]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    found = []
    for index, box in enumerate(boxes.tolist()):
        extra = {} if detections.deviation is None else {"deviation": detections.deviation[index].tolist()}
        label, score = classes[int(detections.classes[index])], float(detections.scores[index])
        found.append(fiftyone.Detection(label=label, bounding_box=box, confidence=score, **extra))
    return fiftyone.Detections(detections=found)


def from_fiftyone(
    detections: "fiftyone.Detections", classes: Sequence[str], height: int, width: int
) -> ImageDetections:
    """Return the detections of FiftyOne. A detection without a confidence gets the score 1.

    Args:
      detections: Detections of an image.
      classes: Class names.
      height: Height of the image, px.
      width: Width of the image, px.

    Raises:
      ValueError: A label is not one of the classes.
    """
    indices = {name: index for index, name in enumerate(classes)}
    boxes, scores, found, sides = [], [], [], []
    for each in detections.detections:
        if each.label not in indices:
            raise ValueError(f"classes: expected a class for the label {each.label!r}, got {', '.join(classes)}")
        left, top, wide, high = each.bounding_box
        boxes.append([left * width, top * height, (left + wide) * width, (top + high) * height])
        scores.append(1.0 if each.confidence is None else each.confidence)
        found.append(indices[each.label])
        sides.append(each["deviation"] if each.has_field("deviation") else None)
    known = bool(sides) and all(side is not None for side in sides)
    return ImageDetections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(found, np.int32),
        np.array(sides, np.float32) if known else None,
    )


def _missing(package: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    if error.name != package:
        return error
    return ModuleNotFoundError(
        f"expected the package {package}, found none; install it with `pip install {package}`", name=package
    )
