"""The training objective: box, objectness and class losses of all levels, as one scalar with its parts."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax import losses
from ugs_jax.detectors import (
    Architecture,
    Candidates,
    Level,
    Localization,
    Outputs,
    Terms,
    background,
    gather,
    localize,
)
from ugs_jax.refinement import sparse_perturbation
from ugs_jax.training.matching import Match, match

_LEVEL_WEIGHTS = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}


@dataclass(frozen=True)
class Gains:
    """Weights of the terms.

    Box and class loss are means over the positives of all levels, so that every positive weighs the same. (YOLOv5 adds
    up the means of the levels: a level with two positives pulls as hard as one with two hundred.) Objectness is the
    mean over the cells of a level, summed over levels with YOLOv5's weights.

    Attributes:
      box: of the localization loss.
      objectness: of the objectness loss.
      classes: of the class loss.
      quality: share of the IoU in the objectness target of a positive, 1 − quality + quality · max(CIoU, 0).
      ratio_limit: side ratio up to which an anchor may learn a box.
    """

    box: float = 1.0
    objectness: float = 1.0
    classes: float = 1.0
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
    cell_weights = _LEVEL_WEIGHTS[len(arch.strides)]
    objectness = positives = jnp.zeros(())
    sums: dict[str, Array] = {}
    for one, cell_weight in zip(match(outputs, batch, arch, gains.ratio_limit), cell_weights, strict=True):
        terms = localization_terms(one, localization)
        quality = 1 - gains.quality + gains.quality * jnp.maximum(1 - losses.ciou(terms.boxes, one.targets), 0)
        empty = background(batch.ignore, batch.ignore_mask, stride=one.stride, shape=one.shape)
        objectness += gains.objectness * cell_weight * _objectness_loss(one.level, one.found, quality, empty)
        positives += jnp.sum(one.positive)
        class_loss = _class_loss(one.level, one.found, jnp.asarray(batch.labels))
        named = {"box": terms.loss, "classes": class_loss, "uncertainty": terms.uncertainty, **terms.parts}
        for name, values in named.items():
            sums[name] = sums.get(name, jnp.zeros(())) + losses.masked_sum(values, one.positive)
    means = {name: value / jnp.maximum(positives, 1) for name, value in sums.items()}
    means["box"] *= gains.box
    means["classes"] *= gains.classes
    loss = means["box"] + objectness + means["classes"]
    return loss, {"loss": loss, "objectness": objectness, "positives": positives / batch.boxes.shape[0], **means}


def localization_terms(one: Match, localization: Localization) -> Terms:
    """Localization loss at the candidates of one level; with UR, plus γ times the loss at perturbed features."""
    features, anchors, targets = one.features(), one.anchors, one.targets
    terms = localization.loss(localize(one.localizer, features), anchors, targets)
    refinement = localization.refinement
    if refinement is None:
        return terms
    b, m, k, c = features.shape
    frozen = jax.lax.stop_gradient(one.localizer)

    def uncertainty(flat: Array) -> Array:
        raw = localize(frozen, flat.reshape(b, m, k, c))
        return losses.masked_sum(localization.uncertainty_loss(raw, anchors, targets), one.positive)

    shift = sparse_perturbation(
        uncertainty, features.reshape(b, m * k, c), one.found.cell.reshape(b, m * k), radius=refinement.radius
    )
    moved = localization.loss(localize(one.localizer, features + shift.reshape(features.shape)), anchors, targets)
    parts = {**terms.parts, "refinement": moved.loss}
    return terms._replace(loss=terms.loss + refinement.weight * moved.loss, parts=parts)


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


def _class_loss(level: Level, found: Candidates, labels: Array) -> Float[Array, "b m 3 a"]:
    """Mean over the classes, for every candidate."""
    logits = gather(level.classes, found.cell)  # [b, m, 3, a, n]
    goal = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)[:, :, None, None]
    return jnp.mean(losses.sigmoid_cross_entropy(logits, jnp.broadcast_to(goal, logits.shape)), axis=-1)
