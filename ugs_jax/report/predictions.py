"""Detections on disk: one JSON file, and a picture for each image."""

import io
import json
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation import ImageDetections
from ugs_jax.evaluation.detections import by_score
from ugs_jax.report.pictures import SheetRow, draw_contact_sheet, draw_detections


class Prediction(typing.NamedTuple):
    """Detections on one image.

    Attributes:
      file_name: Name of the image file. Nothing is read or written there.
      image: RGB image.
      detections: Detections, in px of `image`.
    """

    file_name: str
    image: UInt8[np.ndarray, "height width 3"]
    detections: ImageDetections


def write_predictions(
    folder: Path, predictions: Iterable[Prediction], classes: Sequence[str], threshold: float = 0.25
) -> Path:
    """Write `predictions.json` with all detections, and a picture of each image with its best detections.

    Args:
      folder: Output folder, created if it is missing. Files of the same name are replaced atomically.
      predictions: Detections of the images. They are consumed one at a time, so that not all images must fit in
        memory.
      classes: Class names.
      threshold: Least score of a detection that is drawn in a picture. The JSON file holds all detections.

    Returns:
      Path of the JSON file. It holds a list with `file`, `picture`, `width`, `height` and `detections` of each image,
      best score first. A detection has `class`, `score`, `bbox` [x0, y0, x1, y1] in px, and `deviation` if the
      objective predicts it.

    Raises:
      ValueError: A class index has no name, or boxes or scores are not finite.
    """
    taken: set[str] = {"predictions"}
    entries = []
    for prediction in predictions:
        entry = _entry(prediction, classes)
        entry["picture"] = f"{_unused_name(prediction.file_name, taken)}.png"
        picture = draw_detections(prediction.image, prediction.detections, classes, threshold)
        write_atomically(folder / entry["picture"], png_bytes(picture))
        entries.append(entry)
    path = folder / "predictions.json"
    write_atomically(path, (json.dumps(entries, ensure_ascii=False, indent=1) + "\n").encode())
    return path


def write_contact_sheet(path: Path, rows: Sequence[SheetRow], classes: Sequence[str], threshold: float = 0.25) -> Path:
    """Write a picture with ground truth beside detections for several images.

    Args:
      path: PNG file, replaced atomically.
      rows: Images with their objects and detections.
      classes: Class names.
      threshold: Least score of a detection that is drawn.

    Returns:
      `path`.

    Raises:
      ValueError: `rows` is empty.
    """
    write_atomically(path, png_bytes(draw_contact_sheet(rows, classes, threshold)))
    return path


def png_bytes(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Encode an RGB image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")  # `optimize` would take eight times as long to save 7 %
    return buffer.getvalue()


def _entry(prediction: Prediction, classes: Sequence[str]) -> dict[str, typing.Any]:
    height, width = prediction.image.shape[:2]
    detections = by_score(prediction.detections)
    wrong = (detections.classes < 0) | (detections.classes >= len(classes))
    if wrong.any():
        raise ValueError(
            f"{prediction.file_name}: expected class indices 0…{len(classes) - 1}, got "
            f"{int(detections.classes[wrong][0])}; pass the class names that the detector was trained with"
        )
    if not (np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()):
        raise ValueError(
            f"{prediction.file_name}: expected finite boxes and scores, got some that are not; "
            "the detector's output has overflowed: look for non-finite parameters"
        )
    written = []
    for i in range(len(detections.scores)):
        each: dict[str, typing.Any] = {
            "class": classes[int(detections.classes[i])],
            "score": round(float(detections.scores[i]), 5),
            "bbox": [round(float(side), 2) for side in detections.boxes[i]],
        }
        if detections.deviation is not None:
            each["deviation"] = [round(float(side), 3) for side in detections.deviation[i]]
        written.append(each)
    return {"file": prediction.file_name, "width": width, "height": height, "detections": written}


def _unused_name(file_name: str, taken: set[str]) -> str:
    """Return a unique file name without folders and special characters, and add it to `taken`.

    A number is appended if an earlier image has the same name.
    """
    stem = PurePosixPath(file_name.replace("\\", "/")).stem
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem).strip(".")[:80] or "image"
    name, number = safe, 1
    while name.casefold() in taken:
        number += 1
        name = f"{safe}-{number}"
    taken.add(name.casefold())
    return name
