"""Detections from network outputs, on the device: select the best scores, localize only those, suppress duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import Anchors, Kept, non_maximum_suppression, score_voting, variance_voting
from ugs_jax.detectors.levels import HasPyramid, Level, Localizer
from ugs_jax.detectors.sparse import gather, localize, localize_again, predicted_quality
from ugs_jax.numerics import SIDE_FLOOR
from ugs_jax.objectives import Localization, PredictsDeviation, PredictsSpread


class Detections(NamedTuple):
    """Detections of a batch, best first in each image.

    Attributes:
      boxes: Boxes, xyxy, px of the network's input.
      scores: Objectness · class probability, times the optional factors of `Postprocess`.
      classes: Class indices from 0.
      valid: False for padding.
      deviation: Standard deviation of each side (x1, y1, x2, y2), px; None if the objective does not predict it.
    """

    boxes: Float[Array, "b k 4"]
    scores: Float[Array, "b k"]
    classes: Int[Array, "b k"]
    valid: Bool[Array, "b k"]
    deviation: Float[Array, "b k 4"] | None = None


@dataclass(frozen=True)
class Postprocess:
    """Options that turn raw outputs into detections.

    Attributes:
      score_threshold: Score that a detection has to exceed: .001 for evaluation, about .25 for viewing.
      iou_threshold: IoU above which the better of two boxes of a class suppresses the other.
      pre_nms_topk: Number of best (cell, anchor, class) triples per image that are localized and compared.
      max_detections: Largest number of detections per image.
      voting: Sigma of box voting, in which suppressed boxes move the kept ones; about 0.02. None disables voting.
      votes: Weights of the votes: predicted `deviation` and a tenth of the side (`boxes.variance_voting`), or `score`
        with its factors (`boxes.score_voting`), which is always taken if the objective predicts no deviations.
      spread_penalty: κ of the factor exp(−κ · spread/side) on scores, with the mean over the four sides of predicted
        spread over side length. 0 disables it. It needs an objective that predicts spreads (`PredictsSpread`), or
        deviations, which then take their place.
      quality_power: Power of the predicted IoU that scores are multiplied by. 0 disables it. It needs an objective with
        a quality predictor.
    """

    score_threshold: float = 0.001
    iou_threshold: float = 0.6
    pre_nms_topk: int = 1000
    max_detections: int = 500
    voting: float | None = None
    votes: Literal["deviation", "score"] = "deviation"
    spread_penalty: float = 0.0
    quality_power: float = 0.0

    def __post_init__(self) -> None:
        if self.votes not in ("deviation", "score"):
            raise ValueError(f"Postprocess.votes: expected 'deviation' or 'score', got {self.votes!r}")
        if self.voting is not None and not self.voting > 0:
            raise ValueError(f"Postprocess.voting: expected a number above 0 or None, got {self.voting}")
        for name in ("spread_penalty", "quality_power"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Postprocess.{name}: expected a number >= 0, got {getattr(self, name)}")


class LocalizedCandidates(NamedTuple):
    """Localized (cell, anchor, class) triples of a batch, best objectness · class probability first.

    Attributes:
      boxes: Boxes, xyxy, px of the network's input.
      scores: Objectness · class probability.
      classes: Class indices from 0.
      deviation: Standard deviation of each side, px; None if the objective does not predict it.
      quality: Predicted IoU; None without a quality predictor.
      spread: Mean over the sides of predicted spread over side length; None if the objective predicts neither spreads
        nor deviations.
    """

    boxes: Float[Array, "*b n 4"]
    scores: Float[Array, "*b n"]
    classes: Int[Array, "*b n"]
    deviation: Float[Array, "*b n 4"] | None
    quality: Float[Array, "*b n"] | None
    spread: Float[Array, "*b n"] | None = None


def detect(
    levels: Sequence[Level],
    localizers: Sequence[Localizer],
    localization: Localization,
    arch: HasPyramid,
    options: Postprocess,
) -> Detections:
    """Decode the outputs of a batch and suppress duplicates, with static shapes.

    A box may be detected as several classes, each with its own score. For each image the `pre_nms_topk` best triples
    over all levels are localized. The others could enter the result only in extreme crowds.

    Args:
      levels: Maps of every level, finest first.
      localizers: Localization layers of every level, finest first.
      localization: Localization objective.
      arch: Architecture with anchors and strides.
      options: Options of the postprocessing.

    Raises:
      ValueError: `options` needs deviations or a quality that the objective does not predict.
    """
    return suppress(localize_candidates(levels, localizers, localization, arch, options.pre_nms_topk), options)


def localize_candidates(
    levels: Sequence[Level],
    localizers: Sequence[Localizer],
    localization: Localization,
    arch: HasPyramid,
    count: int,
) -> LocalizedCandidates:
    """Return the `count` best candidates over all levels of each image, localized.

    Args:
      levels: Maps of every level, finest first.
      localizers: Localization layers of every level, finest first.
      localization: Localization objective.
      arch: Architecture with anchors and strides.
      count: Largest number of candidates of an image.
    """
    per_level = [
        _best(level, localizer, localization, np.asarray(sizes, np.float32), stride, count)
        for level, localizer, sizes, stride in zip(levels, localizers, arch.anchors, arch.strides, strict=True)
    ]
    every = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *per_level)
    _, index = jax.lax.top_k(every.scores, min(count, every.scores.shape[1]))
    return jax.tree.map(lambda part: _taken(part, index), every)


def suppress(candidates: LocalizedCandidates, options: Postprocess) -> Detections:
    """Return the detections of a batch: its candidates, rescored, suppressed and moved by votes.

    Args:
      candidates: Candidates from `localize_candidates`.
      options: Options of the postprocessing.

    Raises:
      ValueError: `options` needs deviations or a quality that the candidates do not have.
    """
    return jax.vmap(lambda each: _suppress(each, options))(rescore(candidates, options))


def rescore(candidates: LocalizedCandidates, options: Postprocess) -> LocalizedCandidates:
    """Return candidates with the optional factors in their scores; scores that do not exceed the threshold become 0.

    Args:
      candidates: Candidates from `localize_candidates`.
      options: Options of the postprocessing.

    Raises:
      ValueError: `options` needs deviations or a quality that the candidates do not have.
    """
    scores = candidates.scores
    if options.spread_penalty:
        if candidates.spread is None:
            raise ValueError(
                "Postprocess.spread_penalty: expected an objective that predicts deviations; use UGS or DFL, or 0"
            )
        scores = scores * jnp.exp(-options.spread_penalty * candidates.spread)
    if options.quality_power:
        if candidates.quality is None:
            raise ValueError(
                "Postprocess.quality_power: expected an objective with a quality predictor; train UGS or DFL with "
                "quality=Quality(), or use 0"
            )
        scores = scores * candidates.quality**options.quality_power
    return candidates._replace(scores=jnp.where(scores > options.score_threshold, scores, 0.0))


def _sides(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return width, height, width and height, px."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], SIDE_FLOOR)
    return jnp.concatenate([sides, sides], axis=-1)


def _taken(values: Array, index: Array) -> Array:
    index = index.reshape(*index.shape, *(1,) * (values.ndim - 2))
    return jnp.take_along_axis(values, index, axis=1, mode="promise_in_bounds")


def class_scores(level: Level) -> Float[Array, "*cells n"]:
    """Return the score of every class: objectness · class probability, or the latter without objectness."""
    scores = jax.nn.sigmoid(level.classes)
    return scores if level.objectness is None else jax.nn.sigmoid(level.objectness)[..., None] * scores


def _best(
    level: Level, localizer: Localizer, localization: Localization, sizes: np.ndarray, stride: int, count: int
) -> LocalizedCandidates:
    columns, a = level.classes.shape[2:4]
    scores, place, label = best_triples(level, count)
    cell, anchor = place // a, place % a
    raw = localize(localizer, gather(level.features, cell))  # [b, count, a, k]
    raw = jnp.take_along_axis(raw, anchor[..., None, None], axis=2, mode="promise_in_bounds")[:, :, 0]
    center = jnp.stack([cell % columns + 0.5, cell // columns + 0.5], axis=-1) * stride
    anchors = Anchors(center, jnp.asarray(sizes)[anchor], jnp.full_like(center, stride))
    raw = localize_again(localizer, localization, level.features, raw, anchors, stride=stride)
    boxes = localization.decode(raw, anchors)
    deviation = localization.deviation(raw, anchors) if isinstance(localization, PredictsDeviation) else None
    quality = predicted_quality(localizer, localization, raw, boxes, stride=stride)
    quality = None if quality is None else jax.nn.sigmoid(quality)
    spread = localization.spread(raw, anchors) if isinstance(localization, PredictsSpread) else deviation
    spread = None if spread is None else jnp.mean(spread / _sides(boxes), axis=-1)
    return LocalizedCandidates(boxes, scores, label, deviation, quality, spread)


_FEW_CLASSES = 16
"""Number of classes up to which all scores are computed. Below about ten, choosing places first takes longer."""


def best_triples(level: Level, count: int) -> tuple[Array, Array, Array]:
    """Return scores, places (cell · anchors + anchor) and classes of the `count` best triples of each image, [b, k].

    The triples lie in the `count` places whose best class scores highest. With many classes, only the scores of these
    places are computed.

    Args:
      level: Outputs of the level.
      count: Largest number of triples of an image.
    """
    b, n = level.classes.shape[0], level.classes.shape[-1]
    place = None
    if n > _FEW_CLASSES:
        best = class_scores(level._replace(classes=jnp.max(level.classes, axis=-1, keepdims=True))).reshape(b, -1)
        _, place = jax.lax.top_k(best, min(count, best.shape[1]))
        place = -jax.lax.top_k(-place, place.shape[1])[0]  # ascending: equal scores keep the order of the places
        objectness = None if level.objectness is None else _taken(level.objectness.reshape(b, -1), place)
        level = level._replace(objectness=objectness, classes=_taken(level.classes.reshape(b, -1, n), place))
    scores = class_scores(level).reshape(b, -1)
    scores, index = jax.lax.top_k(scores, min(count, scores.shape[1]))
    return scores, index // n if place is None else _taken(place, index // n), index % n


def _suppress(candidates: LocalizedCandidates, options: Postprocess) -> Detections:
    kept = non_maximum_suppression(
        candidates.boxes,
        candidates.scores,
        candidates.classes,
        iou_threshold=options.iou_threshold,
        max_outputs=options.max_detections,
    )
    return detections_of(candidates, kept, options)


_SHARED_ERROR = 0.1
"""Part of the errors that voters share, as a share of the side. Without it, one very certain voter outweighs all."""


def detections_of(candidates: LocalizedCandidates, kept: Kept, options: Postprocess) -> Detections:
    """Return the detections of one image: the candidates that suppression has kept, moved by votes.

    Args:
      candidates: Candidates of one image, from `rescore`.
      kept: Candidates to keep.
      options: Options of the postprocessing.
    """
    best: Any = jax.tree.map(lambda part: part[kept.index], candidates)
    if options.voting is not None:
        voting = (candidates.classes == best.classes[:, None]) & (candidates.scores > 0)
        if options.votes == "deviation" and candidates.deviation is not None:
            shared = _SHARED_ERROR * _sides(candidates.boxes)
            spread = jnp.sqrt(jnp.square(candidates.deviation) + jnp.square(shared))
            moved = variance_voting(best.boxes, candidates.boxes, spread, voting, sigma=options.voting)
        else:
            moved = score_voting(best.boxes, candidates.boxes, candidates.scores, voting, sigma=options.voting)
        best = best._replace(boxes=moved)
    scores = jnp.where(kept.valid, best.scores, 0.0)
    return Detections(best.boxes, scores, best.classes, kept.valid, best.deviation)
