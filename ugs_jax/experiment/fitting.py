"""Anchors and label grids that are fitted to a data set before training."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipeline import Dataset
from data_pipeline.letterbox import letterbox_of
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import (
    Assigner,
    Assignment,
    Candidates,
    Cells,
    TrainableDetector,
    anchors_of_cells,
    assign,
    candidate_anchors,
    candidates_by_level,
)
from ugs_jax.detectors.levels import AnchorSizes
from ugs_jax.experiment.config import Experiment, Network, detector_with
from ugs_jax.objectives import FitsToTargets, Localization

_ENOUGH_BOXES = 16384
ENOUGH_FOR_CELLS = 1024
"""Number of boxes that is enough for fits and statistics if each box meets every cell."""


class Fitted(NamedTuple):
    """Anchors and label grids fitted to a data set.

    Attributes:
      anchors: Sizes (w, h) in px of the network's input for every level, finest first.
      localization: Localization objective of the experiment, with every `FittedGrid` replaced by a fitted grid.
    """

    anchors: AnchorSizes
    localization: Localization


def fit_to(experiment: Experiment, dataset: Dataset) -> Fitted:
    """Return anchors and label grids of the config, or fit them to the training set. The result is deterministic.

    Args:
      experiment: Experiment to be trained.
      dataset: Training images.

    Raises:
      ValueError: No box is large enough, or no box matches an anchor.
    """
    anchors, localization = anchors_for(experiment, dataset), experiment.localization
    if isinstance(localization, FitsToTargets) and localization.to_be_fitted:
        localization = localization.fit(*sample_targets(experiment, anchors, dataset))
    return Fitted(anchors, localization)


def build_detector(experiment: Experiment, dataset: Dataset) -> TrainableDetector:
    """Return the detector of an experiment, with anchors and grids fitted to the training boxes.

    The boxes are those in the letterboxed images at the network's input size.

    Args:
      experiment: Experiment to be trained.
      dataset: Training images.
    """
    return fitted_detector(experiment, fit_to(experiment, dataset), len(dataset.classes))


def fitted_detector(experiment: Experiment, fitted: Fitted, classes: int) -> TrainableDetector:
    """Return the detector of an experiment with anchors and grids that were fitted before.

    Args:
      experiment: Experiment.
      fitted: Anchors and label grids.
      classes: Number of classes.
    """
    return detector_with(replace(experiment, localization=fitted.localization), fitted.anchors, classes)


def anchors_for(experiment: Experiment, dataset: Dataset) -> AnchorSizes:
    """Return the anchors of the config, or fit them to the data set if the config has none.

    Args:
      experiment: Experiment with the network and the image size.
      dataset: Training images. Anchors are fitted to their boxes.
    """
    boxes = input_boxes(dataset, experiment.loader.image_size)
    limit = experiment.loss_weights.anchor_ratio_threshold
    return experiment.network.fit_anchors(
        boxes[:, 2:] - boxes[:, :2], anchor_ratio_threshold=limit, seed=experiment.seed
    )


def sample_targets(
    experiment: Experiment, anchors: AnchorSizes, dataset: Dataset
) -> tuple[Anchors, Float[np.ndarray, "n 4"]]:
    """Return training boxes, xyxy px of the network's input, and before them the anchor of each, for every match.

    Images are not augmented. If there are more than 16384 boxes (1024 for networks without anchors, see
    `assigned_levels`), an evenly spaced subset of as many boxes is used.

    Args:
      experiment: Experiment with the image size and `anchor_ratio_threshold`.
      anchors: Anchors of every level, finest first.
      dataset: Training images.

    Raises:
      ValueError: No box matches an anchor.
    """
    boxes = input_boxes(dataset, experiment.loader.image_size).astype(np.float32)
    enough = _ENOUGH_BOXES if assigner_of_network(experiment) is None else ENOUGH_FOR_CELLS
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), enough)).astype(int)]
    matched: list[tuple[np.ndarray, ...]] = []
    for candidates, level_anchors in assigned_levels(experiment, anchors, boxes):
        positive = np.asarray(candidates.positive)
        targets = np.broadcast_to(boxes[None, :, None, None], (*positive.shape, 4))
        matched.append(tuple(np.asarray(part)[positive] for part in (*level_anchors, targets)))
    *parts, targets = (np.concatenate(part) for part in zip(*matched, strict=True))
    if not len(targets):
        raise ValueError(
            f"grids: expected boxes that match an anchor, got {len(boxes)} boxes and no match; use larger images, "
            "other anchors, or set the grids by hand"
        )
    return Anchors(*map(jnp.asarray, parts)), targets


def assigned_levels(
    experiment: Experiment, anchors: AnchorSizes, boxes: Float[np.ndarray, "n 4"]
) -> Iterator[tuple[Candidates, Anchors]]:
    """Yield the assignment of boxes at every level, finest first, as one image, with the anchors of the candidates.

    For a network without anchors each box chooses cells on its own, as if each cell predicted a box of the level's
    anchor sides around its centre, with the same score.

    Args:
      experiment: Experiment with the image size and `anchor_ratio_threshold`.
      anchors: Anchors of every level, finest first.
      boxes: Boxes, xyxy, px of the network's input.
    """
    height, width = experiment.loader.image_size
    assigner = assigner_of_network(experiment)
    if assigner is not None:
        strides = experiment.network.strides
        levels = [
            anchors_of_cells((height // stride, width // stride), np.asarray(sizes, np.float32), stride)
            for sizes, stride in zip(anchors, strides, strict=True)
        ]
        chosen = candidates_by_level(_chosen_alone(assigner, levels, strides, boxes), levels)
        for candidates, sizes, stride in zip(chosen, anchors, strides, strict=True):
            yield candidates, candidate_anchors(candidates, np.asarray(sizes, np.float32), stride=stride)
        return
    for sizes, stride in zip(anchors, experiment.network.strides, strict=True):
        sides = np.asarray(sizes, np.float32)
        candidates = assign(
            boxes[None],
            np.ones((1, len(boxes)), bool),
            sides,
            stride=stride,
            shape=(height // stride, width // stride),
            anchor_ratio_threshold=experiment.loss_weights.anchor_ratio_threshold,
        )
        yield candidates, candidate_anchors(candidates, sides, stride=stride)


def assigner_of_network(experiment: Experiment) -> Assigner | None:
    """Return the rule by which boxes choose cells, or None for networks with anchors and for detectors of users."""
    network = experiment.network
    return network.assigner if isinstance(network, Network) and not network.network_type.has_objectness else None


def _chosen_alone(
    assigner: Assigner, levels: Sequence[Anchors], strides: tuple[int, ...], boxes: Float[np.ndarray, "n 4"]
) -> Assignment:
    """Return the cells of every box, as one image; the box chooses as the only one in its image."""
    center, half, unit = (
        jnp.concatenate([part(each) for each in levels])
        for part in (lambda each: each.center, lambda each: each.size / 2, lambda each: each.unit[:, 0])
    )
    predicted = jnp.concatenate([center - half, center + half], axis=-1)
    cells = Cells(predicted, jnp.full((len(center), 1), 0.5), center, unit, strides)

    @jax.jit
    def choose(boxes: Array) -> Assignment:
        alone = lambda box: assigner.assign(cells, box[None], jnp.zeros(1, int), jnp.ones(1, bool))  # noqa: E731
        found = jax.lax.map(alone, boxes, batch_size=16)
        return jax.tree.map(lambda part: jnp.swapaxes(part, 0, 1), found)  # [1, n, k]

    return choose(jnp.asarray(boxes))


def input_boxes(dataset: Dataset, image_size: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
    """Return all boxes of a data set, xyxy in px of the letterboxed images.

    Args:
      dataset: Data set.
      image_size: Height and width of the network's input, px.
    """
    boxes: list[Any] = [np.zeros((0, 4))]
    for i in range(len(dataset)):
        example = dataset.annotations(i)
        to = letterbox_of(example.height, example.width, image_size)
        boxes.append(example.boxes * to.scale + np.array([to.pad_x, to.pad_y] * 2))
    return np.concatenate(boxes)
