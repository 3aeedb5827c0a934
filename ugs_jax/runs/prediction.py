"""Detection on image files outside a data set."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax

from data_pipeline import DataError
from data_pipeline.decoding.images import read_image_file
from data_pipeline.decoding.whole_images import decode_whole_image
from data_pipeline.sources.find_files import is_leftover
from ugs_jax.detectors import Postprocess, TrainableDetector
from ugs_jax.experiment.config import Experiment
from ugs_jax.inference import ImageDetector, TestTimeAugmentation, Tiling, detect_image
from ugs_jax.report import Prediction
from ugs_jax.runs.state import Averages, TrainState

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_PLAIN = TestTimeAugmentation()


def predict_files(
    detector: TrainableDetector,
    state: TrainState | Averages,
    experiment: Experiment,
    paths: Sequence[Path],
    *,
    tiling: Tiling | None = None,
    augmented: TestTimeAugmentation = _PLAIN,
    on_error: Callable[[DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Detect objects in image files, one after the other. Boxes are in px of each file.

    Args:
      detector: Detector.
      state: Training state. Its averaged parameters are used.
      experiment: Experiment with image size and postprocessing.
      paths: Image files, or folders of images. Images of a folder are sorted by name. Hidden files and files that macOS
        and Windows leave behind are skipped.
      tiling: Tiling of images that are larger than a tile; None resizes every image as a whole.
      augmented: Test-time augmentation: the flips and scales that are merged.
      on_error: Function that is called for each file that cannot be read as an image. The file is then skipped. None
        raises the error instead.

    Raises:
      FileNotFoundError: A path does not exist, or there are no images.
      data_pipeline.DataError: A file cannot be read as an image, or files are skipped and none can be read.
    """
    files = [file for path in paths for file in _images(path)]
    if not files:
        raise FileNotFoundError(
            f"{', '.join(map(str, paths))}: expected image files ({', '.join(sorted(_SUFFIXES))}), found none"
        )
    detect = image_detector(detector, state, experiment.postprocess)
    size = experiment.loader.image_size
    errors: list[DataError] = []
    for file in files:
        try:
            image = decode_whole_image(read_image_file(file), str(file))
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
            errors.append(error)
            continue
        detections = detect_image(detect, image, size, tiling=tiling, augmented=augmented)
        yield Prediction(file.name, image, detections)
    if len(errors) == len(files):
        raise DataError(f"expected images, but none of {len(files)} files can be read. The last error: {errors[-1]}")


def image_detector(detector: TrainableDetector, state: TrainState | Averages, options: Postprocess) -> ImageDetector:
    """Return a trained detector for `detect_image`: jitted, with the averaged parameters of the run.

    Args:
      detector: Detector.
      state: Training state from `load_for_inference`, or the state of a `LoadedDetector`.
      options: Postprocessing, from network outputs to detections.
    """
    detect = jax.jit(lambda params, stats, images: detector.detect(params, stats, images, options))
    return partial(detect, state.ema_params, state.ema_stats)


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        images = (file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and not is_leftover(file.name))
        return sorted(file for file in images if not file.is_dir())
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an image file or a folder of them, found nothing there")
    return [path]
