"""Pictures of images and videos with their detections."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_pipeline.wording import counted
from ugs_jax.atomic import write_atomically
from ugs_jax.report.formats.image_result import Names, flat
from ugs_jax.report.pictures import draw_detections, draw_frame
from ugs_jax.report.prediction import Prediction

_CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
_HIGHEST_RATE = 600.0  # frames per second


class DrawnFiles:
    """Context that writes a PNG file for each image, and a video for each video. Frames are written as they come.

    Args:
      folder: Output folder.
      classes: Class names for the legends.
      threshold: Least score of a detection that is drawn.
    """

    def __init__(self, folder: Path, classes: Sequence[str], threshold: float) -> None:
        self._folder, self._classes, self._threshold = folder, classes, threshold
        self._names = Names("predictions")
        self._video = contextlib.ExitStack()
        self._source, self._name = "", ""
        self._writer: _VideoFile | None = None

    def __enter__(self) -> "DrawnFiles":
        return self

    def __exit__(self, *error: Any) -> None:
        self._video.__exit__(*error)

    def add(self, prediction: Prediction, name: str) -> str:
        """Draw the detections of an image or frame, and return the name of the file.

        Args:
          prediction: Detections. The frames of a video come one after the other.
          name: Name of the image.
        """
        if prediction.frame is None:
            self._end_video()
            file = f"{self._names.unused(flat(name))}.png"
            picture = draw_detections(prediction.image, prediction.detections, self._classes, self._threshold)
            write_atomically(self._folder / file, png_bytes(picture))
            return file
        frame = prediction.frame
        count = int((prediction.detections.scores >= self._threshold).sum())
        title = f"{frame.seconds:.2f} s, {counted(count, 'detection')}"
        picture = draw_frame(prediction.image, prediction.detections, self._classes, self._threshold, title)
        if self._writer is None or self._source != prediction.file_name or frame.number == 0:
            self._end_video()
            self._source = prediction.file_name
            stem = self._names.unused(flat(str(PurePosixPath(name).parent)))
            self._writer = self._video.enter_context(_video_file(self._folder / stem, picture, frame.rate))
        self._writer.write(picture)
        return self._writer.name

    def _end_video(self) -> None:
        self._video.close()
        self._writer = None


class _VideoFile:
    """A video that is written.

    Args:
      path: File without its suffix, which the codec decides.
      size: Width and height of the pictures, px.
      rate: Frames per second.

    Raises:
      OSError: OpenCV can write none of the codecs.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        import cv2

        # MPEG-4 counts time in at most 65535 parts of a second, so that a rate of many digits is refused.
        rate = round(min(max(rate, 1.0), _HIGHEST_RATE), 2)
        for suffix, codec in _CODECS:
            self._unfinished = path.with_name(f".{path.name}{suffix}")
            self._path = path.with_name(path.name + suffix)
            self._writer = cv2.VideoWriter(str(self._unfinished), cv2.VideoWriter.fourcc(*codec), rate, size)
            if self._writer.isOpened():
                return
            self._unfinished.unlink(missing_ok=True)
        raise OSError(
            f"{path}: expected OpenCV to write a video of {size[0]} × {size[1]} px with one of the codecs "
            f"{', '.join(codec for _, codec in _CODECS)}, but none works; check that the folder can be written, "
            "install opencv-python-headless from PyPI, or leave the videos out with --no-pictures"
        )

    @property
    def name(self) -> str:
        """Name of the file."""
        return self._path.name

    def write(self, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Append an RGB picture."""
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))

    def close(self, *, whole: bool) -> None:
        """Finish the file, or remove it if it is not whole."""
        self._writer.release()
        if whole:
            self._unfinished.replace(self._path)
        self._unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _video_file(path: Path, picture: np.ndarray, rate: float) -> Iterator[_VideoFile]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _VideoFile(path, (picture.shape[1], picture.shape[0]), rate)
    try:
        yield file
    except BaseException:
        file.close(whole=False)
        raise
    file.close(whole=True)


def png_bytes(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Encode an RGB image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")  # `optimize` would take eight times as long to save 7 %
    return buffer.getvalue()
