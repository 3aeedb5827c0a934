"""From network outputs to detections on the device: best scores first, localize only those, suppress duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import Anchors, non_maximum_suppression, variance_voting
from ugs_jax.detectors.architecture import Architecture, Level, Localizer
from ugs_jax.detectors.seam import Localization
from ugs_jax.detectors.sparse import gather, localize


class Detections(NamedTuple):
    """Detections of a batch, best first in each image.

    Attributes:
      boxes: xyxy px of the network's input.
      scores: objectness · class probability.
      classes: 0-based.
      valid: False for padding.
      deviation: standard deviation of each side (x1, y1, x2, y2), px; None where the objective predicts none.
    """

    boxes: Float[Array, "b k 4"]
    scores: Float[Array, "b k"]
    classes: Int[Array, "b k"]
    valid: Bool[Array, "b k"]
    deviation: Float[Array, "b k 4"] | None = None


@dataclass(frozen=True)
class Postprocess:
    """How raw outputs become detections.

    Attributes:
      score_threshold: a detection needs a higher score; .001 for scoring, about .25 to look at.
      iou_threshold: of non-maximum suppression, within a class.
      candidates: best (cell, anchor, class) triples an image that are localized and compared.
      max_detections: an image keeps at most this many.
      voting: sigma of `boxes.variance_voting`, by which suppressed boxes move those that are kept, about 0.02; None
        leaves them where they are. Needs an objective that predicts deviations.
    """

    score_threshold: float = 0.001
    iou_threshold: float = 0.6
    candidates: int = 1000
    max_detections: int = 500
    voting: float | None = None

    def __post_init__(self) -> None:
        if self.voting is not None and not self.voting > 0:
            raise ValueError(f"Postprocess.voting: expected a number above 0 or None, got {self.voting}")


def detect(
    levels: Sequence[Level],
    localizers: Sequence[Localizer],
    localization: Localization,
    arch: Architecture,
    options: Postprocess,
) -> Detections:
    """Decode and suppress, with static shapes.

    A box may be detected as several classes, each with its own score. Per image the `candidates` best triples over all
    levels are localized; the rest could not enter the result except in extreme crowds.

    Raises:
      ValueError: voting with an objective that predicts no deviations.
    """
    per_level = [
        _best(level, localizer, localization, np.asarray(sizes, np.float32), stride, options.candidates)
        for level, localizer, sizes, stride in zip(levels, localizers, arch.anchors, arch.strides, strict=True)
    ]
    found = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *per_level)
    scores, index = jax.lax.top_k(found.scores, min(options.candidates, found.scores.shape[1]))
    found = jax.tree.map(lambda part: _taken(part, index), found)
    found = found._replace(scores=jnp.where(scores > options.score_threshold, scores, 0.0))
    if options.voting is not None and found.deviation is None:
        raise ValueError(
            f"Postprocess.voting: expected an objective that predicts deviations, got {type(localization).__name__}; "
            "use Interval or Distribution, or no voting"
        )
    return jax.vmap(lambda candidates: _suppress(candidates, options))(found)


class _Candidates(NamedTuple):
    """Localized (cell, anchor, class) triples: fields as of `Detections`."""

    boxes: Array
    scores: Array
    classes: Array
    deviation: Array | None


def _taken(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index.reshape(*index.shape, *(1,) * (values.ndim - 2)), axis=1)


def _best(
    level: Level, localizer: Localizer, localization: Localization, sizes: np.ndarray, stride: int, count: int
) -> _Candidates:
    b, _, columns, a, n = level.classes.shape
    scores = jax.nn.sigmoid(level.objectness)[..., None] * jax.nn.sigmoid(level.classes)
    scores, index = jax.lax.top_k(scores.reshape(b, -1), min(count, scores[0].size))
    cell, anchor, label = index // (a * n), index // n % a, index % n
    raw = localize(localizer, gather(level.features, cell))  # [b, count, a, k]
    raw = jnp.take_along_axis(raw, anchor[..., None, None], axis=2)[:, :, 0]
    center = jnp.stack([cell % columns + 0.5, cell // columns + 0.5], axis=-1) * stride
    anchors = Anchors(center, jnp.asarray(sizes)[anchor], jnp.full_like(center, stride))
    return _Candidates(localization.decode(raw, anchors), scores, label, localization.deviation(raw, anchors))


def _suppress(found: _Candidates, options: Postprocess) -> Detections:
    kept = non_maximum_suppression(
        found.boxes,
        found.scores,
        found.classes,
        iou_threshold=options.iou_threshold,
        max_outputs=options.max_detections,
    )
    best: Any = jax.tree.map(lambda part: part[kept.index], found)
    if options.voting is not None and found.deviation is not None:
        voting = (found.classes == best.classes[:, None]) & (found.scores > 0)
        moved = variance_voting(best.boxes, found.boxes, found.deviation, voting, sigma=options.voting)
        best = best._replace(boxes=moved)
    scores = jnp.where(kept.valid, best.scores, 0.0)
    return Detections(best.boxes, scores, best.classes, kept.valid, best.deviation)
