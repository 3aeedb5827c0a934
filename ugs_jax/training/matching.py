"""Matches between outputs and boxes at every level, from which losses and their statistics are computed."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from data_pipeline import Batch
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import (
    Candidates,
    HasPyramid,
    Level,
    Localizer,
    Outputs,
    assign,
    candidate_anchors,
    gather,
    learnable,
)

T = TypeVar("T")


class Match(NamedTuple):
    """One level and its candidates, for b images of m padded boxes.

    Attributes:
      level: Outputs of the network at the level.
      localizer: Localization layers of the level.
      stride: Pixels per cell.
      candidates: Cells and anchors that learn.
      anchors: Anchors of the candidates.
      targets: Box of every candidate, xyxy, px.
    """

    level: Level
    localizer: Localizer
    stride: int
    candidates: Candidates
    anchors: Anchors
    targets: Float[Array, "b m 3 a 4"]

    @property
    def positive(self) -> Bool[Array, "b m 3 a"]:
        """Mask of the candidates that learn."""
        return self.candidates.positive

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the level."""
        _, rows, columns, *_ = self.level.classes.shape
        return rows, columns

    def features(self) -> Float[Array, "b m 3 c"]:
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
        matches.append(Match(level, localizer, stride, candidates, anchors, targets))
    return tuple(matches)


def concatenate_levels(levels: Sequence[T]) -> T:
    """Concatenate arrays of the candidates of each level, [b, m, 3, a, …], along the anchors: [b, m, 3, Σ a, …].

    Loss and curvature are then a single computation for all levels, which compiles and runs faster.
    """
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=3), *levels)


def split_levels(matches: Sequence[Match], values: Float[Array, "b m 3 anchors ..."]) -> list[Array]:
    """Split concatenated arrays into those of each level; this undoes `concatenate_levels`.

    Args:
      matches: Matches of all levels, from `match`.
      values: Concatenated array of the candidates of all levels.
    """
    ends = itertools.accumulate(matched.positive.shape[3] for matched in matches)
    return jnp.split(values, list(ends)[:-1], axis=3)
