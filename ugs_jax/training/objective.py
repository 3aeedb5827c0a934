"""Training objective: box, objectness and class losses of all levels, as one scalar with its parts."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax import losses
from ugs_jax.boxes import Anchors, iou
from ugs_jax.detectors import (
    Assigner,
    ChoosesCells,
    HasPyramid,
    Localizer,
    Outputs,
    TaskAligned,
    TrainableDetector,
    background,
    gather,
    localize,
    localize_again,
    predicted_quality,
)
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.objectives import GuidesRefinement, Localization, PredictsDistribution, Refinement, Terms
from ugs_jax.objectives.refinement import sparse_perturbation
from ugs_jax.training import compaction
from ugs_jax.training.compaction import at_marked
from ugs_jax.training.matching import Match, concatenate_levels, match, match_cells, split_levels

T = TypeVar("T")

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


def localization_terms(matches: tuple[Match, ...], localization: Localization) -> Terms:
    """Return the localization terms at the candidates of all levels, including the second stage, quality and UR."""
    features, localizers = tuple(m.features() for m in matches), tuple(m.localizer for m in matches)
    targets = concatenate_levels([m.targets for m in matches])
    raw = _first_stage(matches, features, localizers)
    first = _terms(matches, localization, raw)
    terms, raw = _both_stages(matches, localization, raw, first)
    if isinstance(localization, PredictsDistribution) and localization.quality is not None:
        quality = _quality_loss(matches, localization, raw, terms.boxes, targets)
        parts = {**terms.parts, "quality": quality}
        terms = terms._replace(loss=terms.loss + localization.quality.weight * quality, parts=parts)
    if isinstance(localization, GuidesRefinement) and localization.refinement is not None:
        moved = _refined_loss(matches, localization, features, localizers, localization.refinement)
        parts = {**terms.parts, "refinement": moved}
        terms = terms._replace(loss=terms.loss + localization.refinement.weight * moved, parts=parts)
    return terms


def _first_stage(matches: tuple[Match, ...], features: tuple[Array, ...], localizers: tuple[Localizer, ...]) -> Array:
    """Return raw outputs at the candidates of all levels; 0 at cells without a positive, unless there are few cells."""

    def of_level(m: Match, features: Array, localizer: Localizer) -> Array:
        layer = Localizer(localizer.kernel, localizer.bias)
        (rows,), (learns,) = _merge_boxes((features,)), _merge_boxes((jnp.any(m.positive, axis=-1),))
        raw = at_marked(lambda layer, rows, _: localize(layer, rows), layer, rows, (), learns, chunk=compaction.CELLS)
        return raw.reshape(*features.shape[:-1], *raw.shape[2:])

    return concatenate_levels([of_level(*level) for level in zip(matches, features, localizers, strict=True)])


def _terms(matches: tuple[Match, ...], localization: Localization, raw: Array) -> Terms:
    """Return the localization terms of raw outputs. The gradient of the loss alone is defined."""

    def terms(raw: Array, anchors: Anchors, targets: Array) -> Terms:
        found = localization.loss(raw, anchors, targets)
        return Terms(found.loss, *jax.lax.stop_gradient(found[1:]))

    return _at_positives(matches, terms, raw)


def _at_positives(matches: tuple[Match, ...], function: Callable[[Array, Anchors, Array], T], raw: Array) -> T:
    """Return a function of raw outputs, anchors and targets at the positives of all levels."""
    constants = concatenate_levels([(m.anchors, m.targets) for m in matches])
    return _at_marked(matches, lambda raw, constants: function(raw, *constants), raw, constants)


def _at_marked(matches: tuple[Match, ...], function: Callable[[Array, Any], T], rows: Array, constants: Any) -> T:
    """Apply a function to arrays [b, m, k, Σ a, …] at the positives of all levels; see `at_marked`."""
    positive = concatenate_levels([m.positive for m in matches])
    rows, constants, mask = jax.tree.map(lambda x: x.reshape(len(x), -1, *x.shape[4:]), (rows, constants, positive))
    found = at_marked(lambda _, *each: function(*each), (), rows, constants, mask, chunk=compaction.CANDIDATES)
    return jax.tree.map(lambda leaf: leaf.reshape(*positive.shape, *leaf.shape[2:]), found)


def _both_stages(
    matches: tuple[Match, ...], localization: Localization, raw: Array, first: Terms
) -> tuple[Terms, Array]:
    """Return the terms of the last stage, with both stages in the loss, and its raw outputs."""
    if not isinstance(localization, PredictsDistribution) or localization.second_stage is None:
        return first, raw
    raw = concatenate_levels(
        [
            localize_again(m.localizer, localization, m.level.features, part, m.anchors, stride=m.stride)
            for m, part in zip(matches, split_levels(matches, raw), strict=True)
        ]
    )
    second = _terms(matches, localization, raw)
    share = localization.second_stage.share
    parts = {**second.parts, "first_stage": first.loss}
    return second._replace(loss=share * second.loss + (1 - share) * first.loss, parts=parts), raw


def _quality_loss(
    matches: tuple[Match, ...], localization: Localization, raw: Array, decoded: Array, targets: Array
) -> Float[Array, "b m k a"]:
    """Return the cross entropy between predicted and true IoU."""
    by_level = zip(matches, split_levels(matches, raw), split_levels(matches, decoded), strict=True)
    logits: list[Any] = [
        predicted_quality(m.localizer, localization, part, boxes, stride=m.stride) for m, part, boxes in by_level
    ]
    goal = jax.lax.stop_gradient(iou(decoded, targets))
    return losses.sigmoid_cross_entropy(concatenate_levels(logits), goal)


def _refined_loss(
    matches: tuple[Match, ...],
    localization: GuidesRefinement,
    features: tuple[Array, ...],
    localizers: tuple[Localizer, ...],
    refinement: Refinement,
) -> Array:
    """Return the loss of the first stage at features that UR has perturbed."""
    positive = concatenate_levels([m.positive for m in matches])
    frozen = jax.lax.stop_gradient(localizers)

    def uncertainty(rows: tuple[Array, ...]) -> Array:
        raw = _first_stage(matches, _reshape_as(features, rows), frozen)
        return losses.masked_sum(_at_positives(matches, localization.uncertainty_loss, raw), positive)

    cells = _merge_boxes(tuple(m.candidates.cell for m in matches))
    shifts = sparse_perturbation(
        uncertainty, _merge_boxes(features), cells, radius=refinement.radius, norm=refinement.norm
    )
    shifted = jax.tree.map(jnp.add, features, _reshape_as(features, shifts))
    return _terms(matches, localization, _first_stage(matches, shifted, localizers)).loss


def _merge_boxes(levels: tuple[Array, ...]) -> tuple[Array, ...]:
    """Merge the axes of boxes and cells of every level: [b, m, k, …] to [b, k m, …]."""
    return tuple(values.reshape(values.shape[0], -1, *values.shape[3:]) for values in levels)


def _reshape_as(shaped: tuple[Array, ...], levels: tuple[Array, ...]) -> tuple[Array, ...]:
    """Reshape the array of every level to the shape of its counterpart; this undoes `_merge_boxes`."""
    return tuple(values.reshape(other.shape) for values, other in zip(levels, shaped, strict=True))


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
    logits = concatenate_levels([gather(m.level.classes, m.candidates.cell) for m in matches])  # [b, m, 3, a, n]
    labels = jnp.broadcast_to(jnp.asarray(batch.classes)[:, :, None, None], logits.shape[:-1])
    factors = _class_weights(loss_weights)

    def loss_of(logits: Array, labels: Array) -> Array:
        goal = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        loss = jnp.mean(losses.sigmoid_cross_entropy(logits, goal), axis=-1)
        return loss if factors is None else loss * factors.astype(loss.dtype)[labels]

    return _at_marked(matches, loss_of, logits, labels)
