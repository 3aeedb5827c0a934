"""Training objective: box, objectness and class losses of all levels, as one scalar with its parts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax import losses
from ugs_jax.detectors import (
    Assigner,
    ChoosesCells,
    HasPyramid,
    Outputs,
    TaskAligned,
    TrainableDetector,
    background,
    gather,
)
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.objectives import Localization
from ugs_jax.training.learning_cells import at_positives, learning_cells
from ugs_jax.training.localization_terms import localization_terms
from ugs_jax.training.matching import Match, concatenate_levels, match, match_cells

_LEVEL_WEIGHTS = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}
"""Weights of the objectness losses of the levels in YOLOv5; for other numbers of levels all weigh 1."""


_CLASS_SHARE = 0.5 / 7.5
"""Weight of the class loss over that of the box loss in published detectors without objectness."""


def objective(
    outputs: Outputs,
    batch: Batch,
    localization: Localization,
    arch: HasPyramid,
    loss_weights: LossWeights,
    assigner: Assigner | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return the loss of a batch and its parts, all of them means over the whole (global) batch.

    Args:
      outputs: Outputs of the network in training mode.
      batch: Batch with boxes, labels and ignore regions. Its `images` are not used.
      localization: Localization objective.
      arch: Architecture with anchors and strides.
      loss_weights: Weights of the parts.
      assigner: Rule by which boxes choose cells, for a detector without objectness; `TaskAligned()` by default.

    Returns:
      Scalar to minimise, and a dictionary for the log: box, objectness and classes (weighted), the terms of the
      localization loss, uncertainty (mean over positives; NaN without positives), and positives (number of anchors per
      image that learn a box).
    """
    matches = matches_of(outputs, batch, localization, arch, loss_weights, assigner)
    terms = localization_terms(matches, localization)
    targets = concatenate_levels([m.targets for m in matches])
    positive = concatenate_levels([m.positive for m in matches])
    weight = concatenate_levels([m.weight for m in matches])
    named = {"box": terms.loss, "uncertainty": terms.uncertainty, **terms.parts}
    means = {name: losses.weighted_mean(values, weight) for name, values in named.items()}
    if has_objectness(outputs):
        quality = (
            1 - loss_weights.quality + loss_weights.quality * jnp.maximum(1 - losses.ciou(terms.boxes, targets), 0)
        )
        objectness = loss_weights.objectness * _objectness_loss(matches, quality, batch)
        means["classes"] = losses.weighted_mean(_class_loss(matches, batch, loss_weights), weight)
    else:
        objectness = jnp.zeros(())
        means["classes"] = _soft_class_loss(matches, batch, loss_weights)
    means["box"] *= loss_weights.box
    means["classes"] *= loss_weights.classes
    loss = means["box"] + objectness + means["classes"]
    means["uncertainty"] = jnp.where(jnp.any(positive), means["uncertainty"], jnp.nan)
    positives = jnp.sum(positive) / batch.boxes.shape[0]
    return loss, {"loss": loss, "objectness": objectness, "positives": positives, **means}


def assigner_of(detector: TrainableDetector) -> Assigner | None:
    """Return the rule by which boxes choose cells of a detector, or None if the detector names none."""
    return detector.assigner if isinstance(detector, ChoosesCells) else None


def has_objectness(outputs: Outputs) -> bool:
    """Return True for a detector whose heads predict objectness, which has anchors."""
    return outputs.levels[0].objectness is not None


def matches_of(
    outputs: Outputs,
    batch: Batch,
    localization: Localization,
    arch: HasPyramid,
    loss_weights: LossWeights,
    assigner: Assigner | None,
) -> tuple[Match, ...]:
    """Assign the boxes of a batch: to anchors by their sides, or to cells by the assigner; see `objective`."""
    if has_objectness(outputs):
        return match(outputs, batch, arch, loss_weights.anchor_ratio_threshold)
    return match_cells(outputs, batch, arch, localization, assigner or TaskAligned())


def _objectness_loss(matches: tuple[Match, ...], quality: Array, batch: Batch) -> Float[Array, ""]:
    """Return the mean over positive and background anchors; the best of the boxes at an anchor sets its target."""
    total, first = jnp.zeros(()), 0
    weights = _LEVEL_WEIGHTS.get(len(matches), (1.0,) * len(matches))
    for m, weight in zip(matches, weights, strict=True):
        logits = m.level.objectness
        assert logits is not None
        b, h, w, a = logits.shape
        reached = jnp.where(m.positive, jax.lax.stop_gradient(quality[..., first : first + a]), -1.0)
        first += a
        # Background is −1 and positives are their quality, so that a single scatter gives both target and mask.
        nothing = jnp.full((b, h * w, a), -1, quality.dtype)
        marked = nothing.at[jnp.arange(b)[:, None, None], m.candidates.cell].max(reached)
        empty = background(batch.ignore, batch.ignore_mask, stride=m.stride, shape=m.shape)
        loss = losses.sigmoid_cross_entropy(logits.reshape(b, h * w, a), jnp.maximum(marked, 0))
        total += weight * losses.masked_mean(loss, empty[..., None] | (marked >= 0))
    return total


def _soft_class_loss(matches: tuple[Match, ...], batch: Batch, loss_weights: LossWeights) -> Float[Array, ""]:
    """Return the class loss of all cells against soft targets, over the sum of the targets (at least 1).

    The loss of a class at a cell that learns the class is multiplied by the weight of the class.
    """
    labels, total, targets = jnp.asarray(batch.classes), jnp.zeros(()), jnp.zeros(())
    factors = _class_weights(loss_weights)
    for m in matches:
        b, h, w, _, n = m.level.classes.shape
        image, cell = jnp.arange(b)[:, None, None], m.candidates.cell
        label = labels[image, m.object]
        weight, positive = m.weight[..., 0], m.positive[..., 0]
        goal = jnp.zeros((b, h * w, n), weight.dtype).at[image, cell, label].max(weight)
        learns = jnp.zeros((b, h * w), bool).at[image, cell].max(positive)
        counts = learns | background(batch.ignore, batch.ignore_mask, stride=m.stride, shape=m.shape)
        loss = losses.sigmoid_cross_entropy(m.level.classes.reshape(b, h * w, n), goal)
        if factors is not None:
            loss = jnp.where(goal > 0, factors, 1) * loss
        total += losses.masked_sum(loss, counts[..., None])
        targets += jnp.sum(goal)
    return _CLASS_SHARE * total / jnp.maximum(targets, 1)


def _class_weights(loss_weights: LossWeights) -> Float[Array, "n"] | None:
    """Return the weight of each class, or None if all are 1."""
    if isinstance(loss_weights.class_weights, str):
        raise ValueError(
            f"loss_weights.class_weights: expected numbers, got {loss_weights.class_weights!r}, which needs the "
            "training boxes; use experiment.with_class_weights"
        )
    return None if loss_weights.class_weights is None else jnp.asarray(loss_weights.class_weights)


def _class_loss(matches: tuple[Match, ...], batch: Batch, loss_weights: LossWeights) -> Float[Array, "b m k a"]:
    """Return the mean over the classes of every candidate, times the weight of the class of its box."""
    cells = [learning_cells(m) for m in matches]
    logits = [gather(m.level.classes, own.cell) for m, own in zip(matches, cells, strict=True)]
    factors = _class_weights(loss_weights)

    def loss_of(logits: Array, labels: Array) -> Array:
        goal = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        loss = jnp.mean(losses.sigmoid_cross_entropy(logits, goal), axis=-1)
        return loss if factors is None else loss * factors.astype(loss.dtype)[labels]

    classes = jnp.asarray(batch.classes)[:, :, None, None]
    labels = [jnp.broadcast_to(classes, m.positive.shape) for m in matches]
    return at_positives(matches, cells, loss_of, logits, labels)
