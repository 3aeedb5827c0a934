"""From network outputs to detections on the device: best scores first, localize only those, suppress duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.boxes import Anchors, non_maximum_suppression
from ugs_jax.detectors.architecture import Architecture, Level, Localizer
from ugs_jax.detectors.localization import Localization
from ugs_jax.detectors.sparse import gather, localize


class Detections(NamedTuple):
    """Detections of a batch, best first in each image.

    Attributes:
      boxes: xyxy px of the network's input.
      scores: objectness · class probability.
      classes: 0-based.
      valid: False for padding.
    """

    boxes: Float[Array, "b k 4"]
    scores: Float[Array, "b k"]
    classes: Int[Array, "b k"]
    valid: Bool[Array, "b k"]


@dataclass(frozen=True)
class Postprocess:
    """How raw outputs become detections.

    Attributes:
      score_threshold: a detection needs a higher score; .001 for scoring, about .25 to look at.
      iou_threshold: of non-maximum suppression, within a class.
      candidates: best (cell, anchor, class) triples an image that are localized and compared.
      max_detections: an image keeps at most this many.
    """

    score_threshold: float = 0.001
    iou_threshold: float = 0.6
    candidates: int = 1000
    max_detections: int = 500


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
    """
    per_level = [
        _best(level, localizer, localization, np.asarray(sizes, np.float32), stride, options.candidates)
        for level, localizer, sizes, stride in zip(levels, localizers, arch.anchors, arch.strides, strict=True)
    ]
    scores, classes, boxes = (jnp.concatenate(parts, axis=1) for parts in zip(*per_level, strict=True))
    scores, index = jax.lax.top_k(scores, min(options.candidates, scores.shape[1]))
    boxes = jnp.take_along_axis(boxes, index[..., None], axis=1)
    classes = jnp.take_along_axis(classes, index, axis=1)
    scores = jnp.where(scores > options.score_threshold, scores, 0.0)
    return jax.vmap(lambda b, s, c: _suppress(b, s, c, options))(boxes, scores, classes)


def _best(
    level: Level, localizer: Localizer, localization: Localization, sizes: np.ndarray, stride: int, count: int
) -> tuple[Array, Array, Array]:
    b, _, columns, a, n = level.classes.shape
    scores = jax.nn.sigmoid(level.objectness)[..., None] * jax.nn.sigmoid(level.classes)
    scores, index = jax.lax.top_k(scores.reshape(b, -1), min(count, scores[0].size))
    cell, anchor, label = index // (a * n), index // n % a, index % n
    raw = localize(localizer, gather(level.features, cell))  # [b, count, a, k]
    raw = jnp.take_along_axis(raw, anchor[..., None, None], axis=2)[:, :, 0]
    center = jnp.stack([cell % columns + 0.5, cell // columns + 0.5], axis=-1) * stride
    anchors = Anchors(center, jnp.asarray(sizes)[anchor], jnp.full_like(center, stride))
    return scores, label, localization.decode(raw, anchors)


def _suppress(boxes: Array, scores: Array, classes: Array, options: Postprocess) -> Detections:
    kept = non_maximum_suppression(
        boxes, scores, classes, iou_threshold=options.iou_threshold, max_outputs=options.max_detections
    )
    scores = jnp.where(kept.valid, scores[kept.index], 0.0)
    return Detections(boxes[kept.index], scores, classes[kept.index], kept.valid)
