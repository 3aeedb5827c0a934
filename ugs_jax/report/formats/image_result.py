"""One image as the writers of all formats take it."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ugs_jax.evaluation import ImageDetections
from ugs_jax.evaluation.detections import by_score, take
from ugs_jax.report.prediction import Frame, Prediction


class ImageResult(NamedTuple):
    """Detections of one image or frame, ready to be written.

    Attributes:
      name: Unique name without suffix, a relative path with forward slashes.
      file_name: Relative path of the image or video file.
      picture: Name of the picture or video with the boxes; empty without one.
      height: Height of the image, px.
      width: Width of the image, px.
      frame: Place in the video; None for an image file.
      detections: Detections with an area, best first. All values are finite.
    """

    name: str
    file_name: str
    picture: str
    height: int
    width: int
    frame: Frame | None
    detections: ImageDetections

    @property
    def image_id(self) -> int | str:
        """Name as COCO's `image_id`: a number if it consists of digits, as in the file names of COCO's images."""
        return int(self.name) if self.name.isascii() and self.name.isdigit() and len(self.name) <= 18 else self.name

    @property
    def image_file_name(self) -> str:
        """Name of the file with the image alone. The frames of a video are named as `ffmpeg` numbers them."""
        return self.file_name if self.frame is None else f"{self.name}.jpg"

    @property
    def xywh(self) -> Float[np.ndarray, "n 4"]:
        """Boxes as left, top, width and height, px."""
        corners = self.detections.boxes.astype(np.float64)
        return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


Add = Callable[[ImageResult], None]
"""Function that adds an image to the files of a format."""


def checked(prediction: Prediction, classes: Sequence[str], keep: float) -> ImageDetections:
    """Return the detections that are written: those with an area and a score of at least `keep`, best first.

    Args:
      prediction: Detections on an image.
      classes: Class names.
      keep: Least score.

    Raises:
      ValueError: A class index has no name, or boxes or scores are not finite.
    """
    found = by_score(prediction.detections)
    wrong = (found.classes < 0) | (found.classes >= len(classes))
    if wrong.any():
        raise ValueError(
            f"{prediction.file_name}: expected class indices 0…{len(classes) - 1}, got "
            f"{int(found.classes[wrong][0])}; pass the class names that the detector was trained with"
        )
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
        raise ValueError(
            f"{prediction.file_name}: expected finite boxes and scores, got some that are not; "
            "the detector's output has overflowed: look for non-finite parameters"
        )
    return take(found, (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1) & (found.scores >= keep))


class Names:
    """Unique names for files, without regard to case.

    Args:
      taken: Names that are in use already.
    """

    def __init__(self, *taken: str) -> None:
        self._taken = {name.casefold() for name in taken}

    def unused(self, name: str) -> str:
        """Return the name, or the name with the next free number if an earlier one is equal."""
        chosen, number = name, 1
        while chosen.casefold() in self._taken:
            number += 1
            chosen = f"{name}-{number}"
        self._taken.add(chosen.casefold())
        return chosen


def name_of(prediction: Prediction) -> str:
    """Return the name of a prediction as a relative path with forward slashes that stays inside its folder."""
    text = prediction.name
    if not text:
        path = PurePosixPath(prediction.file_name.replace("\\", "/"))
        text = str(path.with_suffix("")) if path.name else str(path)
        text = text if prediction.frame is None else f"{text}/{prediction.frame.number:06d}"
    parts = [part.strip() for part in text.replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part.strip(".") and not part.endswith(":")) or "image"


def flat(name: str) -> str:
    """Return a name as that of a single file, with letters, digits, `-`, `_` and `.` only."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".")[-80:] or "image"
