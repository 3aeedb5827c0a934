"""Task-aligned assignment (TAL), its widening for boxes smaller than a cell (STAL), and its variant with the NWD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ugs_jax import losses
from ugs_jax.detectors.assigner import Assignment, Cells, contains, largest, map_objects, settle

_TINY = 1e-9  # keeps quotients finite


@dataclass(frozen=True)
class TaskAligned:
    """Task-aligned assignment (TAL): an object chooses the cells that score and localize it best.

    The alignment of a cell inside the object is score^α · similarity^β. The object's `topk` best cells learn it. A cell
    that several objects choose learns the one that its box is most similar to. The target score of a cell is its
    alignment, scaled so that the best cell of an object gets the object's best similarity.

    Attributes:
      topk: Number of cells that an object chooses.
      alpha: Power of the class score.
      beta: Power of the similarity.
      widen: Objects whose side is shorter than this level's stride count as wide as the second level's stride when
        cells inside are sought: `finest`, `second` (STAL), or None for boxes as they are, as published for YOLOv8. An
        object smaller than a cell may otherwise have no cell at all.
      similarity: `ciou`, as published, or `nwd`, which is above 0 for tiny boxes that do not overlap.
      constant: C of the NWD in px.

    References:
      Feng et al., TOOD, ICCV 2021; Wang et al., A Normalized Gaussian Wasserstein Distance, 2021.
    """

    topk: int = 10
    alpha: float = 0.5
    beta: float = 6.0
    widen: Literal["finest", "second"] | None = None
    similarity: Literal["ciou", "nwd"] = "ciou"
    constant: float = 12.8

    def __post_init__(self) -> None:
        if self.topk < 1:
            raise ValueError(f"TaskAligned.topk: expected at least 1 cell, got {self.topk}")
        if self.widen not in (None, "finest", "second"):
            raise ValueError(f"TaskAligned.widen: expected 'finest', 'second' or None, got {self.widen!r}")
        if self.similarity not in ("ciou", "nwd"):
            raise ValueError(f"TaskAligned.similarity: expected 'ciou' or 'nwd', got {self.similarity!r}")

    def assign(
        self, cells: Cells, boxes: Float[Array, "m 4"], classes: Int[Array, "m"], mask: Bool[Array, "m"]
    ) -> Assignment:
        """Return the assignment of one image; see `Assigner`."""
        wide, count = self._widened(boxes, cells.strides), min(self.topk, len(cells.boxes))

        def choose(box: Array, wide: Array, label: Array, real: Array) -> tuple[Array, Array]:
            similar = self._similar(box, wide, real, cells.boxes, cells.center)
            aligned = self._aligned(jnp.take(cells.scores, label, axis=1, mode="clip"), similar)
            return largest(aligned, count)

        def most_similar(cell: Array) -> Array:
            at = cells.boxes[cell], cells.center[cell]
            return jnp.argmax(self._similar(boxes[:, None], wide[:, None], mask[:, None], *at), axis=0)

        best, cell = map_objects(choose, boxes, wide, classes, mask)
        taken = settle(cell, best > 0, map_objects(most_similar, cell), len(cells.boxes))
        own = taken.object
        similar = self._similar(boxes[own], wide[own], mask[own], cells.boxes[cell], cells.center[cell])
        aligned = self._aligned(cells.scores.at[cell, classes[own]].get(mode="clip"), similar)
        most_aligned, overlap = (
            jnp.zeros(len(boxes), values.dtype).at[own].max(jnp.where(taken.positive, values, 0))
            for values in (aligned, similar)
        )
        weight = aligned * overlap[own] / (most_aligned[own] + _TINY)
        return taken._replace(weight=jnp.where(taken.positive, weight, 0))

    def _similar(self, boxes: Array, wide: Array, mask: Array, predicted: Array, center: Array) -> Array:
        """Return the similarity of objects and cells; 0 where the cell is no candidate of the object."""
        if self.similarity == "ciou":
            similar = jnp.maximum(1 - losses.ciou(*jnp.broadcast_arrays(predicted, boxes)), 0)
        else:
            similar = 1 - losses.nwd(*jnp.broadcast_arrays(predicted, boxes), constant=self.constant)
        return jnp.where(contains(wide, center) & mask, similar, 0)

    def _aligned(self, score: Array, similar: Array) -> Array:
        return jnp.where(similar > 0, score**self.alpha * similar**self.beta, 0)

    def _widened(self, boxes: Float[Array, "m 4"], strides: Sequence[int]) -> Float[Array, "m 4"]:
        if self.widen is None or len(strides) < 2:
            return boxes
        least = strides[0] if self.widen == "finest" else strides[1]
        side = boxes[:, 2:] - boxes[:, :2]
        half = jnp.where(side < least, strides[1], side) / 2
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        return jnp.concatenate([middle - half, middle + half], axis=-1)
