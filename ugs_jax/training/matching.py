"""Which outputs of every level learn which box: what losses and their statistics are computed from."""

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
      level: what the network says there.
      localizer: the layer that localizes.
      stride: px a cell.
      found: cells and anchors that learn.
      anchors: of the candidates.
      targets: the box of every candidate, xyxy px.
    """

    level: Level
    localizer: Localizer
    stride: int
    found: Candidates
    anchors: Anchors
    targets: Float[Array, "b m 3 a 4"]

    @property
    def positive(self) -> Bool[Array, "b m 3 a"]:
        """Which candidates learn."""
        return self.found.positive

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the level."""
        _, rows, columns, _ = self.level.objectness.shape
        return rows, columns

    def features(self) -> Float[Array, "b m 3 c"]:
        """The feature vectors that candidates are localized from."""
        return gather(self.level.features, self.found.cell)


def match(outputs: Outputs, batch: Batch, arch: HasPyramid, ratio_limit: float) -> tuple[Match, ...]:
    """Assign the boxes of a batch to every level, finest first; boxes inside ignore regions to none.

    Args:
      outputs: of the network.
      batch: boxes and ignore regions; `images` are not looked at.
      arch: anchors and strides.
      ratio_limit: side ratio up to which an anchor may learn a box.
    """
    mask = learnable(batch.boxes, batch.mask, batch.ignore, batch.ignore_mask)
    matches = []
    for level, localizer, anchor_sizes, stride in zip(
        outputs.levels, outputs.localizers, arch.anchors, arch.strides, strict=True
    ):
        _, rows, columns, _ = level.objectness.shape
        sizes = np.asarray(anchor_sizes, np.float32)
        found = assign(batch.boxes, mask, sizes, stride=stride, shape=(rows, columns), ratio_limit=ratio_limit)
        anchors = candidate_anchors(found, sizes, stride=stride)
        targets = jnp.broadcast_to(batch.boxes[:, :, None, None], (*found.positive.shape, 4))
        matches.append(Match(level, localizer, stride, found, anchors, targets))
    return tuple(matches)


def beside(levels: Sequence[T]) -> T:
    """What belongs to the candidates of each level, [b, m, 3, a, …], side by side along the anchors: [b, m, 3, Σ a, …].

    Loss and curvature are then one computation for all levels, which is quicker to compile and to run.
    """
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=3), *levels)
