"""Sparse localization: gather feature vectors, and apply the localization layers only to them. It is exact."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ugs_jax.boxes import Anchors
from ugs_jax.detectors.levels import Localizer
from ugs_jax.objectives import Localization, PredictsDistribution
from ugs_jax.objectives.quality import quality_logit
from ugs_jax.objectives.second_stage import residual_logits


def gather(values: Float[Array, "b h w *rest"], cells: Int[Array, "b *n"]) -> Float[Array, "b ..."]:
    """Return the values at flat cell indices (row · width + column) of every image's map.

    Args:
      values: Map of every image, [b, h, w, …].
      cells: Flat cell indices, [b, …].
    """
    b, h, w, *rest = values.shape
    flat = values.reshape(b, h * w, *rest)
    index = cells.reshape(b, -1, *(1 for _ in rest))
    taken = jnp.take_along_axis(flat, index, axis=1, mode="clip")
    return taken.reshape(*cells.shape, *rest)


def localize(localizer: Localizer, features: Float[Array, "*n c"]) -> Float[Array, "*n a k"]:
    """Return localization logits of every anchor at gathered features, or at a dense map of features.

    Args:
      localizer: Layers of the level.
      features: Feature vectors, [..., c].
    """
    kernel = localizer.kernel.astype(features.dtype)
    c, a, k = kernel.shape
    # Half-precision factors, but sums and logits in the precision of the parameters.
    raw = jnp.matmul(features, kernel.reshape(c, a * k), preferred_element_type=localizer.bias.dtype)
    return raw.reshape(*features.shape[:-1], a, k) + localizer.bias


def localize_again(
    localizer: Localizer,
    localization: Localization,
    features: Float[Array, "b h w c"],
    raw: Float[Array, "b *n k"],
    anchors: Anchors,
    *,
    stride: int,
) -> Float[Array, "b *n k"]:
    """Return the raw outputs after the second localization stage of a level; without one, they are unchanged.

    Args:
      localizer: Layers of the level.
      localization: Objective of the boxes.
      features: Map of the level.
      raw: Outputs of the first stage.
      anchors: Anchors of `raw`.
      stride: Pixels per cell.
    """
    if localizer.second is None or not isinstance(localization, PredictsDistribution):
        return raw
    in_rows = lambda array, axes: array.reshape(array.shape[0], -1, *array.shape[array.ndim - axes :])  # noqa: E731
    boxes, probabilities = localization.decode(raw, anchors), localization.probabilities(raw)
    residual = residual_logits(localizer.second, features, in_rows(boxes, 1), in_rows(probabilities, 2), stride=stride)
    return raw + residual.reshape(raw.shape)


def predicted_quality(
    localizer: Localizer,
    localization: Localization,
    raw: Float[Array, "*batch k"],
    boxes: Float[Array, "*batch 4"],
    *,
    stride: int,
) -> Float[Array, "*batch"] | None:
    """Return the logit of the IoU that the quality predictor of a level expects of boxes; None without a predictor.

    Args:
      localizer: Layers of the level.
      localization: Objective of the boxes.
      raw: Raw outputs of the boxes.
      boxes: Decoded boxes, xyxy, px.
      stride: Pixels per cell.
    """
    if localizer.quality is None or not isinstance(localization, PredictsDistribution):
        return None
    return quality_logit(localizer.quality, localization.probabilities(raw), boxes, stride=stride)
