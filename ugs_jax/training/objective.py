"""The training objective: box, objectness and class losses of all levels, as one scalar with its parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax import losses
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import (
    Architecture,
    Candidates,
    Level,
    Localization,
    Localizer,
    Outputs,
    Terms,
    assign,
    background,
    candidate_anchors,
    gather,
    learnable,
    localize,
)
from ugs_jax.refinement import sparse_perturbation

_LEVEL_WEIGHTS = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}


@dataclass(frozen=True)
class Gains:
    """Weights of the terms, each a mean over positives (box, classes) or cells (objectness), summed over levels.

    Attributes:
      box: of the localization loss.
      objectness: of the objectness loss.
      classes: of the class loss.
      quality: share of the IoU in the objectness target of a positive, 1 − quality + quality · max(CIoU, 0).
      ratio_limit: side ratio up to which an anchor may learn a box.
    """

    box: float = 0.05
    objectness: float = 1.0
    classes: float = 0.5
    quality: float = 1.0
    ratio_limit: float = 4.0


def objective(
    outputs: Outputs, batch: Batch, localization: Localization, arch: Architecture, gains: Gains
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Loss of a batch and its parts, all means over the whole (global) batch.

    Args:
      outputs: of the network in training mode.
      batch: boxes, labels, ignore regions; `images` are not looked at.
      localization: the objective of the boxes.
      arch: anchors and strides.
      gains: weights.

    Returns:
      The scalar to minimise, and for the log: box, objectness, classes (weighted), the terms of the localization
      loss, uncertainty (mean over positives), positives (anchors that learn a box, an image).
    """
    mask = learnable(batch.boxes, batch.mask, batch.ignore, batch.ignore_mask)
    weights = _LEVEL_WEIGHTS[len(arch.strides)]
    sums = {name: jnp.zeros(()) for name in ("box", "objectness", "classes", "uncertainty", "positives")}
    parts: dict[str, Array] = {}
    for level, localizer, sizes, stride, weight in zip(
        outputs.levels, outputs.localizers, arch.anchors, arch.strides, weights, strict=True
    ):
        _, rows, columns, _ = level.objectness.shape
        anchor_sizes = np.asarray(sizes, np.float32)
        found = assign(
            batch.boxes, mask, anchor_sizes, stride=stride, shape=(rows, columns), ratio_limit=gains.ratio_limit
        )
        anchors = candidate_anchors(found, anchor_sizes, stride=stride)
        targets = jnp.broadcast_to(batch.boxes[:, :, None, None], (*found.positive.shape, 4))
        terms = localization_terms(level, localizer, localization, found, anchors, targets)
        quality = 1 - gains.quality + gains.quality * jnp.maximum(1 - losses.ciou(terms.boxes, targets), 0)
        empty = background(batch.ignore, batch.ignore_mask, stride=stride, shape=(rows, columns))
        sums["box"] += gains.box * losses.masked_mean(terms.loss, found.positive)
        sums["objectness"] += gains.objectness * weight * _objectness_loss(level, found, quality, empty)
        sums["classes"] += gains.classes * _class_loss(level, found, jnp.asarray(batch.labels))
        sums["uncertainty"] += losses.masked_sum(terms.uncertainty, found.positive)
        sums["positives"] += jnp.sum(found.positive)
        for name, part in terms.parts.items():
            parts[name] = parts.get(name, jnp.zeros(())) + losses.masked_mean(part, found.positive)
    loss = sums["box"] + sums["objectness"] + sums["classes"]
    sums["uncertainty"] /= jnp.maximum(sums["positives"], 1)
    sums["positives"] /= batch.boxes.shape[0]
    return loss, {"loss": loss, **sums, **parts}


def localization_terms(
    level: Level,
    localizer: Localizer,
    localization: Localization,
    found: Candidates,
    anchors: Anchors,
    targets: Float[Array, "b m 3 a 4"],
) -> Terms:
    """Localization loss at the candidates of one level; with UR, plus γ times the loss at perturbed features.

    Exact at positives, in values and gradients; elsewhere 0 or the term of a candidate that learns nothing. Most
    candidates are padding, so cells with a positive are sorted to the front and blocks without any are skipped.
    """
    queue = _Queue(found)
    features = queue.split(gather(level.features, found.cell))  # [blocks, b, size, c]
    anchors, targets = jax.tree.map(queue.split, (anchors, targets))
    refinement = localization.refinement

    def terms(features: Array, shift: Array, anchors: Anchors, targets: Array) -> Terms:
        here = localization.loss(localize(localizer, features), anchors, targets)
        if refinement is None:
            return here
        moved = localization.loss(localize(localizer, features + shift), anchors, targets)
        parts = {**here.parts, "refinement": moved.loss}
        return here._replace(loss=here.loss + refinement.weight * moved.loss, parts=parts)

    shift = jnp.zeros((len(features), 0))
    if refinement is not None:
        blocks, b, size, c = features.shape
        positive, frozen = queue.split(found.positive) & queue.used, jax.lax.stop_gradient(localizer)

        def um(features: Array, positive: Array, anchors: Anchors, targets: Array) -> Array:
            value = localization.uncertainty_loss(localize(frozen, features), anchors, targets)
            return losses.masked_sum(value, positive)

        def uncertainty(flat: Array) -> Array:
            moved = jnp.moveaxis(flat.reshape(b, blocks, size, c), 1, 0)
            return jnp.sum(queue.over_blocks(um, moved, positive, anchors, targets))

        flat = jnp.moveaxis(features, 0, 1).reshape(b, blocks * size, c)
        cells = jnp.moveaxis(queue.split(found.cell), 0, 1).reshape(b, blocks * size)
        shift = sparse_perturbation(uncertainty, flat, cells, radius=refinement.radius)
        shift = jnp.moveaxis(shift.reshape(b, blocks, size, c), 1, 0)
    return jax.tree.map(queue.join, queue.over_blocks(terms, features, shift, anchors, targets))


class _Queue:
    """The candidate cells of a level in blocks, those with a positive first: a static shape, a cost that is not."""

    def __init__(self, found: Candidates, block: int = 128) -> None:
        self.shape = found.cell.shape
        b, m, k = self.shape
        self.blocks = -(-m * k // block)
        self.size = -(-m * k // self.blocks)  # the most even division into that many blocks
        active = jnp.any(found.positive, axis=-1).reshape(b, m * k)
        order = jnp.argsort(~active, axis=1)
        self.place = jnp.argsort(order, axis=1)
        padding = self.blocks * self.size - m * k
        # Padding repeats a candidate, whose anchors are regular numbers; `used` is False there, `join` drops it.
        self.order = jnp.pad(order, ((0, 0), (0, padding)), mode="edge")
        starts = jnp.arange(self.blocks) * self.size
        self.used = (starts[:, None] + jnp.arange(self.size) < m * k)[:, None, :, None]
        self.busy = starts < jnp.max(jnp.sum(active, axis=1))

    def split(self, values: Array) -> Array:
        """[b, m, 3, …] → [blocks, b, size, …]."""
        b, m, k = self.shape
        rest = values.shape[3:]
        index = self.order.reshape(b, -1, *(1 for _ in rest))
        taken = jnp.take_along_axis(values.reshape(b, m * k, *rest), index, axis=1)
        return jnp.moveaxis(taken.reshape(b, self.blocks, self.size, *rest), 1, 0)

    def join(self, values: Array) -> Array:
        """[blocks, b, size, …] → [b, m, 3, …]."""
        rest = values.shape[3:]
        flat = jnp.moveaxis(values, 0, 1).reshape(self.shape[0], self.blocks * self.size, *rest)
        index = self.place.reshape(*self.place.shape, *(1 for _ in rest))
        return jnp.take_along_axis(flat, index, axis=1).reshape(*self.shape, *rest)

    def over_blocks(self, function: Callable[..., Any], *operands: Any) -> Any:
        """The function of every block, 0 for those without a positive; in the backward pass it is computed again."""
        result = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], operands))
        remade = jax.checkpoint(function, prevent_cse=False)

        def nothing(*_: Any) -> Any:
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), result)

        def visit(_: None, block: tuple[Array, Any]) -> tuple[None, Any]:
            busy, rest = block
            return None, jax.lax.cond(busy, remade, nothing, *rest)

        return jax.lax.scan(visit, None, (self.busy, operands))[1]


def _objectness_loss(level: Level, found: Candidates, quality: Array, empty: Array) -> Array:
    """Mean over cells and anchors that are positive or background; of boxes that share one, the best decides."""
    b, h, w, a = level.objectness.shape
    row = jnp.arange(b)[:, None, None]
    target = jnp.zeros((b, h * w, a), quality.dtype)
    # Positives are marked by −1 + quality above the background's −1, so that one scatter serves target and mask.
    marked = (target - 1).at[row, found.cell].max(jnp.where(found.positive, jax.lax.stop_gradient(quality), -1.0))
    target = jnp.maximum(marked, 0)
    counts = empty[..., None] | (marked >= 0)
    logits = level.objectness.reshape(b, h * w, a)
    return losses.masked_mean(losses.sigmoid_cross_entropy(logits, target), counts)


def _class_loss(level: Level, found: Candidates, labels: Array) -> Array:
    logits = gather(level.classes, found.cell)  # [b, m, 3, a, n]
    goal = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)[:, :, None, None]
    loss = losses.sigmoid_cross_entropy(logits, jnp.broadcast_to(goal, logits.shape))
    return losses.masked_mean(loss, found.positive[..., None])
