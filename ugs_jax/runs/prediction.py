"""Detections on image files that belong to no data set."""

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
from ugs_jax.inference import Detect, TestTimeAugmentation, Tiling, detect_image
from ugs_jax.report import Prediction
from ugs_jax.runs.state import TrainState

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_PLAIN = TestTimeAugmentation()


def predict_files(
    detector: TrainableDetector,
    state: TrainState,
    experiment: Experiment,
    paths: Sequence[Path],
    *,
    tiling: Tiling | None = None,
    augmented: TestTimeAugmentation = _PLAIN,
    on_error: Callable[[DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Detect objects in image files, one after the other, in px of each file.

    Args:
      detector: the network.
      state: its averaged parameters are used.
      experiment: image size and postprocessing.
      paths: files, or folders whose images are taken in order of their names; what is hidden there is passed over, and
        so is what macOS and Windows leave behind.
      tiling: how images larger than a tile are cut up; None looks at them as a whole.
      augmented: mirror images and scales that are looked at too.
      on_error: is told of each file that is no readable image, which is then skipped; None stops there.

    Raises:
      FileNotFoundError: a path that does not exist, or no image at all.
      data_pipeline.DataError: a file that is no readable image, or, where those are skipped, none that is one.
    """
    files = [file for path in paths for file in _images(path)]
    if not files:
        raise FileNotFoundError(f"{', '.join(map(str, paths))}: expected image files ({', '.join(sorted(_SUFFIXES))})")
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
        found = detect_image(detect, image, size, tiling=tiling, augmented=augmented)
        yield Prediction(file.name, image, found.boxes, found.labels, found.scores, deviation=found.deviation)
    if len(errors) == len(files):
        raise DataError(f"expected images, but none of {len(files)} can be read. The last: {errors[-1]}")


def image_detector(detector: TrainableDetector, state: TrainState, options: Postprocess) -> Detect:
    """A trained detector as `detect_image` takes it: jitted, with the run's averaged parameters.

    Args:
      detector: the network.
      state: from `load_for_inference`.
      options: from outputs to detections.
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
