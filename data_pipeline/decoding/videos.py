"""Decoding of video files, one frame after the other."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from data_pipeline.errors import DataError

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"})
"""Suffixes of files that are taken from a folder as videos. A file that is named itself may have any other."""

_USUAL_RATE = 25.0  # frames per second, for files that do not say it
_UNCOUNTED = 2  # frames; the number in a header may be off by a few


class VideoFrame(NamedTuple):
    """One frame of a video.

    Attributes:
      image: RGB image, uint8 [height, width, 3], upright.
      number: Number of the frame, from 0.
      seconds: Time of the frame since the start of the video.
      rate: Frames per second of the video.
    """

    image: np.ndarray
    number: int
    seconds: float
    rate: float


def is_video(path: Path) -> bool:
    """Return True if OpenCV can open a file as a video. It also opens single pictures, which do not count."""
    capture = cv2.VideoCapture(str(path))
    try:
        return _is_opened(capture) and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 1
    finally:
        capture.release()


def video_frames(path: Path) -> Iterator[VideoFrame]:
    """Decode a video with OpenCV. One frame is in memory at a time.

    Args:
      path: Video file of any kind that OpenCV opens.

    Raises:
      DataError: The file is missing, empty or not a video; or, after its last frame, it has fewer frames than its
        header announces.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a video file, found none. Fix: check the path.")
    if not path.stat().st_size:
        raise DataError(f"{path}: expected a video, got 0 bytes. Fix: copy the file again from its source.")
    capture = cv2.VideoCapture(str(path))
    try:
        if not _is_opened(capture):
            raise DataError(
                f"{path}: expected a video, got a file that OpenCV cannot open: it is damaged, cut off or not a video. "
                f"Fix: copy it again from its source, or convert it with `ffmpeg -i {path.name} converted.mp4`."
            )
        count = 0
        for frame in _frames(capture):
            count += 1
            yield frame
        _check_count(path, count, capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()


def _is_opened(capture: Any) -> bool:
    """Return True for an open video, and False for a folder's numbered pictures, which OpenCV opens as one."""
    return bool(capture.isOpened()) and capture.getBackendName() != "CV_IMAGES"


def _frames(capture: Any) -> Iterator[VideoFrame]:
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else _USUAL_RATE
    number = 0
    while True:
        read, image = capture.read()
        if not read:
            return
        seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not (math.isfinite(seconds) and (seconds > 0 or number == 0)):  # a container without time stamps
            seconds = number / rate
        yield VideoFrame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), number, seconds, rate)
        number += 1


def _check_count(path: Path, count: int, announced: float) -> None:
    if not count:
        raise DataError(
            f"{path}: expected a video, got one without a frame that can be read. "
            "Fix: copy the file again from its source."
        )
    missing = announced - count
    if math.isfinite(announced) and missing > max(_UNCOUNTED, 0.02 * announced):
        raise DataError(
            f"{path}: expected the {round(announced):,} frames that its header announces, got {count:,}: the rest is "
            "damaged or missing. Fix: copy the file again from its source."
        )
