"""Non-maximum suppression on the device, with static shapes: the exact greedy result, computed in parallel."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from ugs_jax.boxes.overlap import pairwise_iou
from ugs_jax.numerics import Scalar


class Kept(NamedTuple):
    """Boxes that suppression has kept, best first.

    Attributes:
      index: Positions in the input, by falling score; 0 where not `valid`, so that it is safe to gather with it.
      valid: False for padding.
    """

    index: Int[Array, "outputs"]  # type: ignore[assignment]  # hides tuple.index, which is not needed here
    valid: Bool[Array, "outputs"]


def non_maximum_suppression(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    classes: Int[Array, "n"],
    *,
    iou_threshold: Scalar,
    max_outputs: int,
    class_agnostic: bool = False,
) -> Kept:
    """Keep each box unless a better, kept box of its class overlaps it by more than `iou_threshold`.

    1. Greedy suppression is the unique solution of keep_i = no kept j before i with IoU_ij > t. Iterating that equation
       from "all kept" settles at least one more leading box in each round, so n rounds always suffice. In practice
       the number of rounds is the length of the longest chain of suppressions, which is small.
    2. Classes are compared. Shifting the coordinates of each class by an offset, as is common, would cost precision.

    Use `jax.vmap` for a batch. Memory grows with n².

    Args:
      boxes: Boxes, xyxy, px.
      scores: Scores of the boxes. Of equal scores the first row wins. Rows whose score is not above 0, NaN included,
        are padding: they are never kept and suppress no other box.
      classes: Class of each box.
      iou_threshold: IoU above which the better box suppresses the other, in [0, 1].
      max_outputs: Length of the result; may exceed n.
      class_agnostic: Lets boxes of different classes suppress each other, too.

    Returns:
      Indices of the kept boxes, padded to `max_outputs`.

    Raises:
      ValueError: `iou_threshold` is outside [0, 1], or `max_outputs` is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [30.0, 0.0, 40.0, 10.0]])
      >>> kept = non_maximum_suppression(
      ...     boxes, jnp.array([0.6, 0.9, 0.3]), jnp.array([0, 0, 0]), iou_threshold=0.5, max_outputs=3
      ... )
      >>> print(kept.index, kept.valid)
      [1 2 0] [ True  True False]
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected a number in [0, 1], got {iou_threshold}")
    if max_outputs < 1:
        raise ValueError(f"max_outputs: expected at least 1, got {max_outputs}")
    order = jnp.argsort(jnp.where(scores > 0, scores, -jnp.inf), descending=True, stable=True)
    boxes, candidate, classes = boxes[order], (scores > 0)[order], classes[order]
    conflict = pairwise_iou(boxes, boxes) > iou_threshold
    if not class_agnostic:
        conflict &= classes[:, None] == classes[None, :]
    keep = _greedy(conflict, candidate)
    (position,) = jnp.nonzero(keep, size=max_outputs, fill_value=0)
    valid = jnp.arange(max_outputs) < jnp.sum(keep)
    return Kept(jnp.where(valid, order[position], 0).astype(jnp.int32), valid)


def _greedy(conflict: Bool[Array, "n n"], candidate: Bool[Array, "n"]) -> Bool[Array, "n"]:
    """Return the fixed point of keep_i = candidate_i and no kept j < i in conflict with i; boxes come best first."""
    n = candidate.shape[0]
    earlier = jnp.arange(n)[None, :] < jnp.arange(n)[:, None]
    suppressed_by = (conflict & earlier).astype(jnp.float32)

    def unsettled(state: tuple[Array, Array]) -> Array:
        return jnp.any(state[0] != state[1])

    def refine(state: tuple[Array, Array]) -> tuple[Array, Array]:
        _, keep = state
        return keep, candidate & (suppressed_by @ keep.astype(jnp.float32) == 0)

    return jax.lax.while_loop(unsettled, refine, refine((candidate, candidate)))[1]
