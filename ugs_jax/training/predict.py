"""Detections on image files that belong to no data set."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax

from data_pipeline.images import decode_image, read_image_file
from ugs_jax.detectors import Detector, Postprocess
from ugs_jax.evaluation import Prediction
from ugs_jax.inference import Augmented, Detect, Tiling, detect_image
from ugs_jax.training.config import Experiment
from ugs_jax.training.state import TrainState

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_PLAIN = Augmented()


def predict_files(
    detector: Detector,
    state: TrainState,
    experiment: Experiment,
    paths: Sequence[Path],
    *,
    tiling: Tiling | None = None,
    augmented: Augmented = _PLAIN,
) -> Iterator[Prediction]:
    """Detect objects in image files, one after the other, in px of each file.

    Args:
      detector: the network.
      state: its averaged parameters are used.
      experiment: image size and postprocessing.
      paths: files, or folders whose images are taken in order of their names.
      tiling: how images larger than a tile are cut up; None looks at them as a whole.
      augmented: mirror images and scales that are looked at too.

    Raises:
      FileNotFoundError: a path that does not exist, or no image at all.
      data_pipeline.DataError: a file that is no readable image.
    """
    files = [file for path in paths for file in _images(path)]
    if not files:
        raise FileNotFoundError(f"{', '.join(map(str, paths))}: expected image files ({', '.join(sorted(_SUFFIXES))})")
    detect = image_detector(detector, state, experiment.postprocess)
    size = experiment.loader.image_size
    for file in files:
        image = decode_image(read_image_file(file), str(file))
        found = detect_image(detect, image, size, tiling=tiling, augmented=augmented)
        yield Prediction(file.name, image, found.boxes, found.labels, found.scores, deviation=found.deviation)


def image_detector(detector: Detector, state: TrainState, options: Postprocess) -> Detect:
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
        return sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an image file or a folder of them, found nothing there")
    return [path]
