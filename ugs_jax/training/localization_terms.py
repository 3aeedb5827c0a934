"""Localization terms of the candidates of all levels: both stages, quality and uncertainty-guided refinement (UR)."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax import losses
from ugs_jax.boxes import Anchors, iou
from ugs_jax.detectors import Localizer, localize, localize_again, predicted_quality
from ugs_jax.objectives import GuidesRefinement, Localization, PredictsDistribution, Refinement, Terms
from ugs_jax.objectives.refinement import sparse_perturbation
from ugs_jax.training.learning_cells import (
    LearningCells,
    are_few,
    at_localized,
    at_positives_of_level,
    gather_features,
    learning_cells,
)
from ugs_jax.training.matching import Match, concatenate_levels

_Levels = tuple[Array, ...]


def localization_terms(matches: tuple[Match, ...], localization: Localization) -> Terms:
    """Return the localization terms at the positives of all levels, including the second stage, quality and UR.

    The values at other candidates do not count. The loss alone carries a gradient.
    """
    cells = tuple(learning_cells(m) for m in matches)
    features = gather_features(matches, cells)
    if isinstance(localization, PredictsDistribution) and (localization.second_stage or localization.quality):
        terms = _layered_terms(matches, cells, localization, features)
    else:
        terms = _terms(matches, cells, localization, features)
    if isinstance(localization, GuidesRefinement) and (refinement := localization.refinement) and refinement.weight:
        moved = _refined_loss(matches, cells, localization, features, refinement)
        terms = _with_part(terms, "refinement", moved, refinement.weight)
    return terms


def _with_part(terms: Terms, name: str, values: Array, weight: float) -> Terms:
    return terms._replace(loss=terms.loss + weight * values, parts={**terms.parts, name: values})


def _terms(
    matches: tuple[Match, ...], cells: tuple[LearningCells, ...], localization: Localization, features: _Levels
) -> Terms:
    """Return the terms of the first stage at the positives, from the features in the slots of every level."""
    return at_localized(matches, cells, partial(_loss, localization), features)


def _loss(localization: Localization, raw: Array, own: tuple[Anchors, Array]) -> Terms:
    found = localization.loss(raw, *own)
    return Terms(found.loss, *jax.lax.stop_gradient(found[1:]))


def _layered_terms(
    matches: tuple[Match, ...], cells: tuple[LearningCells, ...], localization: PredictsDistribution, features: _Levels
) -> Terms:
    """Return the terms at the positives of an objective with a second stage or a quality predictor."""
    two_stages, whole = localization.second_stage is not None, are_few(matches)
    return concatenate_levels(
        [
            at_positives_of_level(
                m,
                own,
                partial(_with_layers, localization, m.stride),
                m.localizer,
                slots,
                (m.anchors, m.targets),
                m.level.features if two_stages else None,
                whole=whole,
            )
            for m, own, slots in zip(matches, cells, features, strict=True)
        ]
    )


def _with_layers(
    localization: PredictsDistribution,
    stride: int,
    localizer: Localizer,
    level: Float[Array, "h w c"] | None,
    cells: Float[Array, "n c"],
    own: tuple[Array, tuple[Anchors, Array]],
) -> Terms:
    """Return the terms of n positives of one image after all layers that localize.

    Args:
      localization: Objective.
      stride: Pixels per cell.
      localizer: Layers of the level.
      level: Feature map of the level, if there is a second stage.
      cells: Features of the cells of the positives.
      own: Anchor indices, and anchors and targets, of the positives.
    """
    anchor, (anchors, targets) = own
    raw = localize(localizer, cells)[jnp.arange(len(cells)), anchor]
    terms = _loss(localization, raw, (anchors, targets))
    if localization.second_stage is not None:
        share, first = localization.second_stage.share, terms.loss
        of_image = jax.tree.map(lambda leaf: leaf[None], (level, raw, anchors))
        raw = localize_again(localizer, localization, *of_image, stride=stride)[0]
        terms = _loss(localization, raw, (anchors, targets))
        terms = terms._replace(
            loss=share * terms.loss + (1 - share) * first, parts={**terms.parts, "first_stage": first}
        )
    if localization.quality is not None:
        logits = predicted_quality(localizer, localization, raw, terms.boxes, stride=stride)
        assert logits is not None, "an objective with a quality predictor has its layer"
        goal = jax.lax.stop_gradient(iou(terms.boxes, targets))
        terms = _with_part(terms, "quality", losses.sigmoid_cross_entropy(logits, goal), localization.quality.weight)
    return terms


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
