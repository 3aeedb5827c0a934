"""Task-aligned assignment (TAL), its widening for boxes smaller than a cell (STAL), and its variant with the NWD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ugs_jax import losses
from ugs_jax.detectors.assigner import Assignment, Cells, contains, settle

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
        inside = contains(self._widened(boxes, cells.strides), cells.center) & mask[:, None]
        pairs = jnp.broadcast_to(cells.boxes, (len(boxes), *cells.boxes.shape)), boxes[:, None]
        if self.similarity == "ciou":
            similar = jnp.maximum(1 - losses.ciou(*pairs), 0)
        else:
            similar = 1 - losses.nwd(*pairs, constant=self.constant)
        similar = jnp.where(inside, similar, 0)
        score = jnp.take(cells.scores, classes, axis=1, mode="clip").T
        alignment = jnp.where(inside, score**self.alpha * similar**self.beta, 0)
        best, cell = jax.lax.top_k(alignment, min(self.topk, alignment.shape[1]))
        taken = settle(cell, best > 0, similar)
        aligned, overlap = alignment[taken.object, cell], similar[taken.object, cell]
        most_aligned, most_similar = (
            jnp.zeros(len(boxes), values.dtype).at[taken.object].max(jnp.where(taken.positive, values, 0))
            for values in (aligned, overlap)
        )
        weight = aligned * most_similar[taken.object] / (most_aligned[taken.object] + _TINY)
        return taken._replace(weight=jnp.where(taken.positive, weight, 0))

    def _widened(self, boxes: Float[Array, "m 4"], strides: Sequence[int]) -> Float[Array, "m 4"]:
        if self.widen is None or len(strides) < 2:
            return boxes
        least = strides[0] if self.widen == "finest" else strides[1]
        side = boxes[:, 2:] - boxes[:, :2]
        half = jnp.where(side < least, strides[1], side) / 2
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        return jnp.concatenate([middle - half, middle + half], axis=-1)
