"""What is fitted to a data set before training: anchors, and grids of labels."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipeline import Dataset
from data_pipeline.letterbox import letterbox_of
from ugs_jax.boxes import encode
from ugs_jax.detectors import TrainableDetector, assign, candidate_anchors
from ugs_jax.detectors.architecture import AnchorSizes
from ugs_jax.experiment.config import Experiment, detector_with
from ugs_jax.objectives import FitsToTargets, Localization

_ENOUGH_BOXES = 16384


class Fitted(NamedTuple):
    """What a data set decides of a detector.

    Attributes:
      anchors: (w, h) in px of the network's input for every level, finest first.
      localization: the experiment's, every `FittedGrid` in it replaced by what was fitted.
    """

    anchors: AnchorSizes
    localization: Localization


def fit_to(experiment: Experiment, dataset: Dataset) -> Fitted:
    """Anchors and grids: those of the config, or else fitted to the training set; deterministic.

    Args:
      experiment: what will be trained.
      dataset: its training images.

    Raises:
      ValueError: no box that is large enough, or none that an anchor may learn.
    """
    anchors, localization = anchors_for(experiment, dataset), experiment.localization
    if isinstance(localization, FitsToTargets) and localization.to_be_fitted:
        localization = localization.fit(sample_targets(experiment, anchors, dataset))
    return Fitted(anchors, localization)


def build_detector(experiment: Experiment, dataset: Dataset) -> TrainableDetector:
    """The experiment's detector, with anchors and grids fitted to the training boxes at the network's input size."""
    return fitted_detector(experiment, fit_to(experiment, dataset), len(dataset.classes))


def fitted_detector(experiment: Experiment, fitted: Fitted, classes: int) -> TrainableDetector:
    """The experiment's detector with what was fitted before."""
    return detector_with(replace(experiment, localization=fitted.localization), fitted.anchors, classes)


def anchors_for(experiment: Experiment, dataset: Dataset) -> AnchorSizes:
    """Return the anchors of the detector's settings, fitted to the data set where they leave it open."""
    boxes = _input_boxes(dataset, experiment.loader.image_size)
    limit = experiment.loss_weights.ratio_limit
    return experiment.network.fit_anchors(boxes[:, 2:] - boxes[:, :2], ratio_limit=limit, seed=experiment.seed)


def sample_targets(experiment: Experiment, anchors: AnchorSizes, dataset: Dataset) -> Float[np.ndarray, "n 4"]:
    """Offsets of boxes from all anchors that learn them, as `boxes.encode` gives them, without augmentation.

    Of more than 16384 boxes, as many at equal distances.

    Args:
      experiment: for image size and ratio limit.
      anchors: for every level, finest first.
      dataset: training images.

    Raises:
      ValueError: no anchor learns any box.
    """
    height, width = experiment.loader.image_size
    boxes = _input_boxes(dataset, (height, width)).astype(np.float32)
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _ENOUGH_BOXES)).astype(int)][None]
    found = []
    for sizes, stride in zip(anchors, experiment.network.strides, strict=True):
        sides = np.asarray(sizes, np.float32)
        candidates = assign(
            boxes,
            np.ones(boxes.shape[:2], bool),
            sides,
            stride=stride,
            shape=(height // stride, width // stride),
            ratio_limit=experiment.loss_weights.ratio_limit,
        )
        offsets = encode(jnp.asarray(boxes)[:, :, None, None], candidate_anchors(candidates, sides, stride=stride))
        found.append(np.asarray(offsets)[np.asarray(candidates.positive)])
    targets = np.concatenate(found)
    if not len(targets):
        raise ValueError(
            f"grids: expected boxes that anchors may learn, got none of {boxes.shape[1]}; use larger images, other "
            "anchors, or set the grids by hand"
        )
    return targets


def _input_boxes(dataset: Dataset, image_size: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
    """All boxes in px of the letterboxed images, xyxy."""
    boxes: list[Any] = [np.zeros((0, 4))]
    for i in range(len(dataset)):
        example = dataset.annotations(i)
        to = letterbox_of(example.height, example.width, image_size)
        boxes.append(example.boxes * to.scale + np.array([to.pad_x, to.pad_y] * 2))
    return np.concatenate(boxes)
