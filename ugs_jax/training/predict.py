"""Detections on image files that belong to no data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from data_pipeline.images import decode_image, read_image_file
from data_pipeline.letterbox import letterbox
from ugs_jax.detectors import Detector
from ugs_jax.evaluation import Prediction, to_original
from ugs_jax.training.config import Experiment
from ugs_jax.training.state import TrainState

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def predict_files(
    detector: Detector, state: TrainState, experiment: Experiment, paths: Sequence[Path]
) -> Iterator[Prediction]:
    """Detect objects in image files, one after the other, in px of each file.

    Args:
      detector: the network.
      state: its averaged parameters are used.
      experiment: image size and postprocessing.
      paths: files, or folders whose images are taken in order of their names.

    Raises:
      FileNotFoundError: a path that does not exist, or no image at all.
      data_pipeline.DataError: a file that is no readable image.
    """
    files = [file for path in paths for file in _images(path)]
    if not files:
        raise FileNotFoundError(f"{', '.join(map(str, paths))}: expected image files ({', '.join(sorted(_SUFFIXES))})")
    detect = jax.jit(lambda params, stats, image: detector.detect(params, stats, image, experiment.postprocess))
    for file in files:
        image = decode_image(read_image_file(file), str(file))
        canvas, box = letterbox(image, experiment.loader.image_size)
        found = jax.device_get(detect(state.ema_params, state.ema_stats, canvas[None]))
        seen = found.valid[0]
        placed = np.asarray([[box.scale, box.pad_x, box.pad_y]], np.float32)
        boxes = to_original(found.boxes, placed, np.asarray([image.shape[:2]], np.int32))[0]
        yield Prediction(file.name, image, boxes[seen], found.classes[0][seen], found.scores[0][seen])


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an image file or a folder of them, found nothing there")
    return [path]
