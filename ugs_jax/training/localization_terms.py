"""Localization terms of the candidates of all levels: both stages, quality and uncertainty-guided refinement (UR)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax import losses
from ugs_jax.boxes import Anchors, iou
from ugs_jax.detectors import localize, localize_again, predicted_quality
from ugs_jax.objectives import GuidesRefinement, Localization, PredictsDistribution, Refinement, Terms
from ugs_jax.objectives.refinement import sparse_perturbation
from ugs_jax.training.learning_cells import (
    LearningCells,
    at_candidates,
    at_localized,
    at_positives,
    every_candidate,
    gather_features,
    learning_cells,
)
from ugs_jax.training.matching import Match, concatenate_levels, split_levels

_Levels = tuple[Array, ...]


def localization_terms(matches: tuple[Match, ...], localization: Localization) -> Terms:
    """Return the localization terms at the positives of all levels, including the second stage, quality and UR.

    The values at other candidates do not count. The loss alone carries a gradient.
    """
    cells = tuple(learning_cells(m) for m in matches)
    features = gather_features(matches, cells)
    terms = _terms(matches, cells, localization, features)
    if isinstance(localization, PredictsDistribution) and (localization.second_stage or localization.quality):
        last = [_raw(*each) for each in zip(matches, cells, features, strict=True)]
        if localization.second_stage is not None:
            terms, last = _both_stages(matches, localization, last, terms, localization.second_stage.share)
        if localization.quality is not None:
            quality = _quality_loss(matches, localization, last, terms.boxes)
            terms = _with_part(terms, "quality", quality, localization.quality.weight)
    if isinstance(localization, GuidesRefinement) and (refinement := localization.refinement) and refinement.weight:
        moved = _refined_loss(matches, cells, localization, features, refinement)
        terms = _with_part(terms, "refinement", moved, refinement.weight)
    return terms


def _with_part(terms: Terms, name: str, values: Array, weight: float) -> Terms:
    return terms._replace(loss=terms.loss + weight * values, parts={**terms.parts, name: values})


def _raw(match: Match, cells: LearningCells, features: Float[Array, "b r c"]) -> Float[Array, "b m k a outputs"]:
    """Return the raw outputs of the first stage of a level at every candidate."""
    return at_candidates(cells, localize(match.localizer, features))


def _terms(
    matches: tuple[Match, ...], cells: tuple[LearningCells, ...], localization: Localization, features: _Levels
) -> Terms:
    """Return the terms of the first stage at the positives, from the features in the slots of every level."""
    return at_localized(matches, cells, partial(_loss, localization), features)


def _loss(localization: Localization, raw: Array, own: tuple[Anchors, Array]) -> Terms:
    found = localization.loss(raw, *own)
    return Terms(found.loss, *jax.lax.stop_gradient(found[1:]))


def _both_stages(
    matches: tuple[Match, ...], localization: Localization, raw: list[Array], first: Terms, share: float
) -> tuple[Terms, list[Array]]:
    """Return the terms of the second stage, with both stages in the loss, and its raw outputs at every candidate."""
    last = [
        localize_again(m.localizer, localization, m.level.features, part, m.anchors, stride=m.stride)
        for m, part in zip(matches, raw, strict=True)
    ]
    merge = lambda leaf: leaf.reshape(len(leaf), -1, *leaf.shape[3:])  # noqa: E731
    slots = tuple(every_candidate(m) for m in matches)
    own = [(m.anchors, m.targets) for m in matches]
    second = at_positives(matches, slots, partial(_loss, localization), tuple(map(merge, last)), own)
    parts = {**second.parts, "first_stage": first.loss}
    return second._replace(loss=share * second.loss + (1 - share) * first.loss, parts=parts), last


def _quality_loss(
    matches: tuple[Match, ...], localization: Localization, raw: list[Array], decoded: Array
) -> Float[Array, "b m k a"]:
    """Return the cross entropy between predicted and true IoU."""
    by_level = zip(matches, raw, split_levels(matches, decoded), strict=True)
    logits: list[Any] = [
        predicted_quality(m.localizer, localization, part, boxes, stride=m.stride) for m, part, boxes in by_level
    ]
    goal = jax.lax.stop_gradient(iou(decoded, concatenate_levels([m.targets for m in matches])))
    return losses.sigmoid_cross_entropy(concatenate_levels(logits), goal)


def _refined_loss(
    matches: tuple[Match, ...],
    cells: tuple[LearningCells, ...],
    localization: GuidesRefinement,
    features: _Levels,
    refinement: Refinement,
) -> Array:
    """Return the loss of the first stage at features that UR has perturbed."""
    positive = concatenate_levels([m.positive for m in matches])

    def uncertainty(features: _Levels) -> Array:
        of_raw = lambda raw, own: localization.uncertainty_loss(raw, *own)  # noqa: E731
        return losses.masked_sum(at_localized(matches, cells, of_raw, features, frozen=True), positive)

    shifts = sparse_perturbation(uncertainty, features, radius=refinement.radius, norm=refinement.norm)
    shifted = jax.tree.map(jnp.add, features, shifts)
    return _terms(matches, cells, localization, shifted).loss
