"""Detection on image and video files outside a data set."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipeline import DataError
from data_pipeline.decoding.images import read_image_file
from data_pipeline.decoding.videos import VIDEO_SUFFIXES, is_video, video_frames
from data_pipeline.decoding.whole_images import decode_whole_image
from ugs_jax.detectors import TrainableDetector
from ugs_jax.experiment.config import Experiment
from ugs_jax.inference import TestTimeAugmentation, Tiling, detect_image
from ugs_jax.report import Frame, Prediction
from ugs_jax.runs.engines import Engine, image_detector
from ugs_jax.runs.input_files import IMAGE_SUFFIXES, input_files
from ugs_jax.runs.state import Averages, TrainState

_PLAIN = TestTimeAugmentation()


def predict_files(
    detector: TrainableDetector,
    state: TrainState | Averages,
    experiment: Experiment,
    paths: Sequence[Path],
    *,
    tiling: Tiling | None = None,
    augmented: TestTimeAugmentation = _PLAIN,
    engine: Engine = "jax",
    on_error: Callable[[DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Detect objects in image and video files, one image or frame after the other. Boxes are in px of each file.

    Args:
      detector: Detector.
      state: Training state. Its averaged parameters are used.
      experiment: Experiment with image size and postprocessing.
      paths: Image and video files, or folders of them. The files of a folder are sorted by name. Hidden files and files
        that macOS and Windows leave behind are skipped.
      tiling: Tiling of images that are larger than a tile; None resizes every image as a whole.
      augmented: Test-time augmentation: the flips and scales that are merged.
      engine: Engine that computes the detections; see `image_detector`.
      on_error: Function that is called for each file that cannot be read, or not to its end. The file, or its end, is
        then skipped. None raises the error instead.

    Raises:
      FileNotFoundError: A path does not exist, or there are no images and videos.
      data_pipeline.DataError: A file cannot be read, or files are skipped and none can be read.
      ValueError: A package of the engine is not installed, or the detector cannot be exported to it.
    """
    files = input_files(paths)
    detect = image_detector(detector, state, experiment.postprocess, engine)
    size = experiment.loader.image_size
    count, errors = 0, list[DataError]()
    for file in files:
        try:
            for image, frame in _images(file.path):
                found = detect_image(detect, image, size, tiling=tiling, augmented=augmented)
                name = file.name if frame is None else f"{file.name}/{frame.number:06d}"
                count += 1
                yield Prediction(file.file_name, image, found, frame, name)
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
            errors.append(error)
    if not count:
        raise DataError(f"expected images, but none of {len(files)} files can be read. The last error: {errors[-1]}")


def _images(path: Path) -> Iterator[tuple[np.ndarray, Frame | None]]:
    """Return the image of a file, or the frames of a video."""
    suffix = path.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        try:
            image = decode_whole_image(read_image_file(path), str(path))
        except DataError:
            if suffix in IMAGE_SUFFIXES or not path.is_file() or not is_video(path):
                raise
        else:
            yield image, None
            return
    for frame in video_frames(path):
        yield frame.image, Frame(frame.number, frame.seconds, frame.rate)
