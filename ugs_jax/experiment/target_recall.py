"""Recall of a data set's boxes by anchors and by label grids: the part of the labels that a detector can learn."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from data_pipeline import Dataset
from ugs_jax.detectors import best_possible_recall
from ugs_jax.detectors.architecture import published_anchors
from ugs_jax.detectors.levels import AnchorSizes
from ugs_jax.experiment.config import Experiment, Network
from ugs_jax.experiment.fitting import ENOUGH_FOR_CELLS, assigned_levels, assigner_of_network, fit_to, input_boxes
from ugs_jax.objectives import LimitsTargets


@dataclass(frozen=True)
class TargetRecall:
    """Boxes that anchors, or the cells of a network without anchors, and label grids can represent; not augmented.

    Attributes:
      anchors: Anchor sides (w, h) of the experiment for every level, finest first, given or fitted, px.
      recall: Share of the boxes that match one of these anchors, so that they are assigned and can be learned. Without
        anchors, share of the boxes that choose a cell, each on its own; see `fitting.assigned_levels`.
      published_recall: The same for the published COCO anchors; None for a detector of your own or without anchors.
      anchor_ratio_threshold: Side ratio up to which an anchor may learn a box.
      positives: Mean number of positions (cell and anchor) that learn a box.
      crowded_out: Share of the boxes whose positions all learn another box of the image as well.
      assigner: Rule by which boxes choose cells; None for networks with anchors.
      boxes: Number of boxes that were looked at. Without anchors, only those of some images are.
      inside: Share of the targets within the range of the label grid, by the name of the box parameter. Targets outside
        are clipped to the ends of the grid. None for an objective without grids.
    """

    anchors: AnchorSizes
    recall: float
    published_recall: float | None
    anchor_ratio_threshold: float
    positives: float
    crowded_out: float
    assigner: str | None
    boxes: int
    inside: dict[str, float] | None


def target_recall(experiment: Experiment, dataset: Dataset) -> TargetRecall:
    """Return the share of a data set's boxes that the anchors and label grids of an experiment can represent.

    Args:
      experiment: Experiment with the network, the objective, the image size and `anchor_ratio_threshold`.
      dataset: Training images. Anchors and grids are fitted to them if the experiment has none.

    Raises:
      ValueError: No box is large enough, or no box matches an anchor.
    """
    limit = experiment.loss_weights.anchor_ratio_threshold
    fitted = fit_to(experiment, dataset)
    assigner = assigner_of_network(experiment)
    boxes = input_boxes(dataset, experiment.loader.image_size).astype(np.float32)
    owners = np.repeat(np.arange(len(dataset)), np.diff(dataset.table.box_start))
    if assigner is not None:
        some = np.isin(owners, _some_images(np.diff(dataset.table.box_start)))
        boxes, owners = boxes[some], owners[some]
    counts, shared = np.zeros(len(boxes)), np.zeros(len(boxes))
    inside: list[Bool[np.ndarray, "_ 4"]] = []
    for candidates, anchors in assigned_levels(experiment, fitted.anchors, boxes):
        positive = np.asarray(candidates.positive)[0]
        box, cell, anchor = np.nonzero(positive)
        cells = np.asarray(candidates.cell, np.int64)[0]
        positions = (owners[box] * (cells.max(initial=0) + 1) + cells[box, cell]) * positive.shape[-1] + anchor
        _, which, times = np.unique(positions, return_inverse=True, return_counts=True)
        np.add.at(counts, box, 1)
        np.add.at(shared, box, times[which] > 1)
        if isinstance(fitted.localization, LimitsTargets):
            targets = np.broadcast_to(boxes[None, :, None, None], (1, *positive.shape, 4))
            inside.append(np.asarray(fitted.localization.contains(anchors, jnp.asarray(targets)))[0][positive])
    sides = boxes[:, 2:] - boxes[:, :2]
    published = None
    if isinstance(experiment.network, Network) and assigner is None:
        default = published_anchors(experiment.network.network_type, experiment.network.p2)
        published = best_possible_recall(sides, default, anchor_ratio_threshold=limit)
    return TargetRecall(
        anchors=fitted.anchors,
        recall=float((counts > 0).mean()),
        published_recall=published,
        anchor_ratio_threshold=limit,
        positives=float(counts[counts > 0].mean()) if counts.any() else 0.0,
        crowded_out=float((shared[counts > 0] == counts[counts > 0]).mean()) if counts.any() else 0.0,
        assigner=None if assigner is None else str(assigner),
        boxes=len(boxes),
        inside=_shares(fitted.localization, inside),
    )


def _some_images(counts: Int[np.ndarray, "images"]) -> Int[np.ndarray, "some"]:
    """Return images, evenly spaced over the data set, which have about 1024 boxes in all."""
    share = min(1.0, ENOUGH_FOR_CELLS / max(1, counts.sum()))
    return np.linspace(0, len(counts) - 1, max(1, round(share * len(counts)))).astype(int)


def _shares(localization: object, inside: list[Bool[np.ndarray, "_ 4"]]) -> dict[str, float] | None:
    if not isinstance(localization, LimitsTargets) or not sum(map(len, inside)):
        return None
    return dict(zip(localization.parameters, np.concatenate(inside).mean(axis=0).tolist(), strict=True))
