"""Detections on one image or frame."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from ugs_jax.evaluation import ImageDetections


class Frame(NamedTuple):
    """Place of an image in a video.

    Attributes:
      number: Number of the frame, from 0.
      seconds: Time since the start of the video.
      rate: Frames per second of the video.
    """

    number: int
    seconds: float
    rate: float


class Prediction(NamedTuple):
    """Detections on one image or frame.

    Attributes:
      file_name: Path of the image or video file, relative to a folder. Nothing is read or written there.
      image: RGB image.
      detections: Detections, in px of `image`.
      frame: Place in the video; None for an image file.
      name: Name in output files, such as `folder/image`. An empty name stands for `file_name` without suffix, followed
        by the number of the frame.
    """

    file_name: str
    image: UInt8[np.ndarray, "height width 3"]
    detections: ImageDetections
    frame: Frame | None = None
    name: str = ""
