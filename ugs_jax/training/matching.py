"""Matches between outputs and boxes at every level, from which losses and their statistics are computed."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from data_pipeline import Batch
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import (
    Assigner,
    Assignment,
    Candidates,
    Cells,
    HasPyramid,
    Level,
    Localizer,
    Outputs,
    anchors_of_cells,
    assign,
    candidate_anchors,
    candidates_by_level,
    class_scores,
    gather,
    learnable,
    localize,
)
from ugs_jax.objectives import Localization

T = TypeVar("T")


class Match(NamedTuple):
    """One level and its candidates, for b images of m padded boxes: k cells for each box, with a anchors each.

    Attributes:
      level: Outputs of the network at the level.
      localizer: Localization layers of the level.
      stride: Pixels per cell.
      candidates: Cells and anchors that learn.
      anchors: Anchors of the candidates.
      targets: Box of every candidate, xyxy, px.
      object: Index of the box that a candidate learns.
      weight: Weight of a candidate in the means of the losses; 0 where it does not learn.
    """

    level: Level
    localizer: Localizer
    stride: int
    candidates: Candidates
    anchors: Anchors
    targets: Float[Array, "b m k a 4"]
    object: Int[Array, "b m k"]
    weight: Float[Array, "b m k a"]

    @property
    def positive(self) -> Bool[Array, "b m k a"]:
        """Mask of the candidates that learn."""
        return self.candidates.positive

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the level."""
        _, rows, columns, *_ = self.level.classes.shape
        return rows, columns

    def features(self) -> Float[Array, "b m k c"]:
        """Return the feature vectors from which the candidates are localized."""
        return gather(self.level.features, self.candidates.cell)


def match(outputs: Outputs, batch: Batch, arch: HasPyramid, anchor_ratio_threshold: float) -> tuple[Match, ...]:
    """Assign the boxes of a batch to every level, finest first. Boxes inside ignore regions are not assigned.

    Args:
      outputs: Outputs of the network.
      batch: Batch with boxes and ignore regions. Its `images` are not used.
      arch: Architecture with anchors and strides.
      anchor_ratio_threshold: Side ratio up to which an anchor may learn a box.
    """
    mask = learnable(batch.boxes, batch.mask, batch.ignore, batch.ignore_mask)
    matches = []
    for level, localizer, anchor_sizes, stride in zip(
        outputs.levels, outputs.localizers, arch.anchors, arch.strides, strict=True
    ):
        _, rows, columns, *_ = level.classes.shape
        sizes = np.asarray(anchor_sizes, np.float32)
        candidates = assign(
            batch.boxes,
            mask,
            sizes,
            stride=stride,
            shape=(rows, columns),
            anchor_ratio_threshold=anchor_ratio_threshold,
        )
        anchors = candidate_anchors(candidates, sizes, stride=stride)
        targets = jnp.broadcast_to(batch.boxes[:, :, None, None], (*candidates.positive.shape, 4))
        own = jnp.broadcast_to(jnp.arange(mask.shape[1])[:, None], candidates.cell.shape)
        weight = candidates.positive.astype(jnp.float32)
        matches.append(Match(level, localizer, stride, candidates, anchors, targets, own, weight))
    return tuple(matches)


def match_cells(
    outputs: Outputs, batch: Batch, arch: HasPyramid, localization: Localization, assigner: Assigner
) -> tuple[Match, ...]:
    """Assign the boxes of a batch to cells of a detector without objectness, by what it predicts at every cell.

    The predictions of all cells are used without a gradient. Boxes inside ignore regions are not assigned.

    Args:
      outputs: Outputs of the network.
      batch: Batch with boxes and ignore regions. Its `images` are not used.
      arch: Architecture with one anchor for each level, and strides.
      localization: Localization objective.
      assigner: Rule by which boxes choose cells.
    """
    everywhere = [
        anchors_of_cells(level.classes.shape[1:3], np.asarray(sizes, np.float32), stride)
        for level, sizes, stride in zip(outputs.levels, arch.anchors, arch.strides, strict=True)
    ]
    assigned = _assigned(jax.lax.stop_gradient(outputs), everywhere, batch, arch.strides, localization, assigner)
    targets = jax.vmap(lambda boxes, index: boxes[index])(jnp.asarray(batch.boxes), assigned.object)
    matches = []
    for level, localizer, sizes, stride, candidates in zip(
        outputs.levels,
        outputs.localizers,
        arch.anchors,
        arch.strides,
        candidates_by_level(assigned, everywhere),
        strict=True,
    ):
        own = candidate_anchors(candidates, np.asarray(sizes, np.float32), stride=stride)
        weight = jnp.where(candidates.positive, assigned.weight[..., None], 0)
        matches.append(
            Match(level, localizer, stride, candidates, own, targets[:, :, :, None], assigned.object, weight)
        )
    return tuple(matches)


def _assigned(
    outputs: Outputs,
    everywhere: Sequence[Anchors],
    batch: Batch,
    strides: Sequence[int],
    localization: Localization,
    assigner: Assigner,
) -> Assignment:
    b = batch.boxes.shape[0]
    boxes, scores = [], []
    for level, localizer, anchors in zip(outputs.levels, outputs.localizers, everywhere, strict=True):
        raw = localize(localizer, level.features)
        raw = raw.reshape(b, -1, raw.shape[-1])
        boxes.append(
            localization.decode(raw, jax.tree.map(lambda part: jnp.broadcast_to(part, (b, *part.shape)), anchors))
        )
        scores.append(class_scores(level).reshape(b, -1, level.classes.shape[-1]))
    center, unit = (jnp.concatenate([getattr(each, part) for each in everywhere]) for part in ("center", "unit"))

    def assign_image(boxes: Array, scores: Array, truth: Array, classes: Array, mask: Array) -> Assignment:
        return assigner.assign(Cells(boxes, scores, center, unit[:, 0], tuple(strides)), truth, classes, mask)

    truth, classes = jnp.asarray(batch.boxes), jnp.asarray(batch.classes)
    mask = learnable(truth, batch.mask, batch.ignore, batch.ignore_mask)
    found = jax.vmap(assign_image)(jnp.concatenate(boxes, 1), jnp.concatenate(scores, 1), truth, classes, mask)
    return jax.lax.stop_gradient(found)


def concatenate_levels(levels: Sequence[T]) -> T:
    """Concatenate arrays of the candidates of each level, [b, m, k, a, …], along the anchors: [b, m, k, Σ a, …].

    Loss and curvature are then a single computation for all levels, which compiles and runs faster.
    """
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=3), *levels)
