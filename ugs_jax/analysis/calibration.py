"""Calibration of the deviations that a run predicts, on the images of its config."""

from pathlib import Path
from typing import Literal

import numpy as np

from data_pipeline import Dataset
from ugs_jax.detectors import Detections
from ugs_jax.evaluation import BatchGeometry, split_batch
from ugs_jax.evaluation.detections import take
from ugs_jax.inference import Calibration, SideErrors, calibration, side_errors
from ugs_jax.runs.loading import load_for_inference
from ugs_jax.runs.run_folder import read_experiment
from ugs_jax.training.evaluate import detections, jit_detect


def measure_calibration(
    folder: Path,
    *,
    which: Literal["best", "last"] = "best",
    split: Literal["val", "train"] = "val",
    min_score: float = 0.05,
    iou: float = 0.5,
    bins: int = 10,
) -> Calibration:
    """Compare the predicted deviations of box sides with their errors, in px of the stored images.

    Plot the result with `plot_calibration`.

    Args:
      folder: Run folder.
      which: Checkpoint, `best` or `last`.
      split: Images: `val`, or `train` for the training images without augmentation.
      min_score: Score that a detection must exceed to count.
      iou: Least IoU of a detection and its object.
      bins: Number of bins by predicted deviation. All bins hold the same number of sides.

    Raises:
      FileNotFoundError: The run or the checkpoint does not exist.
      ValueError: The objective predicts no deviations, or no detection matches an object.
    """
    experiment = read_experiment(folder)
    data = experiment.data.open(split)
    detector, state, mesh = load_for_inference(folder, experiment, which=which)
    detect = jit_detect(detector, experiment.postprocess, mesh)
    batches = detections(detect, state.ema_params, state.ema_stats, data, experiment.loader, mesh, images=False)
    images = [image for found, batch in batches for image in _errors(found, batch, data, min_score, iou)]
    return calibration(images, bins)


def _errors(
    detected: Detections, batch: BatchGeometry, data: Dataset, min_score: float, iou: float
) -> list[SideErrors]:
    errors = []
    for image_id, image in split_batch(detected, batch):
        truth = data.annotations(image_id)
        kept = take(image._replace(boxes=image.boxes.astype(np.float64)), image.scores > min_score)
        errors.append(side_errors(kept, truth.boxes, truth.classes, iou=iou))
    return errors
