"""Localization layers made from the published layers, for objectives that predict something else.

Published layers regress boxes (YOLOv5), predict distributions of the distances to the sides (YOLOv8, YOLO11), or
regress these distances (YOLO26).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ugs_jax.detectors import Architecture, Detector
from ugs_jax.objectives import Localization, StartsFromDistribution, StartsFromRegression
from ugs_jax.objectives.start_layer import bells_around
from ugs_jax.weights.layouts import flat_leaves
from ugs_jax.weights.published_yolov8 import DISTANCES, DISTRIBUTIONS
from ugs_jax.weights.weights import REGRESSION, Weights, decoding_of

_BEYOND = 3  # strides by which the bells around regressed distances reach beyond 0 and 15; their means would be biased
START_WIDTH = (0.35, 0.35, 0.35, 0.35)
"""Default standard deviation with which distributions of (x, y, log w, log h) start."""


class Layer(NamedTuple):
    """Localization layer of one level of a published network.

    Attributes:
      kernel: Weights from features to the outputs of every anchor.
      bias: Bias of every output.
      anchors: Anchor sides (w, h) with which it was trained, px.
    """

    kernel: Float[np.ndarray, "c a outputs"]
    bias: Float[np.ndarray, "a outputs"]
    anchors: Float[np.ndarray, "a 2"]


def same_heads(weights: Weights, target: Architecture) -> bool:
    """Return True if heads of weights and of an architecture have the same kind of layers.

    Args:
      weights: Weights of a network.
      target: Architecture that may be of another family.
    """
    return weights.arch.network.has_objectness == target.network.has_objectness


def published_layer(weights: Weights, detector: Detector, level: int) -> Layer | None:
    """Return the published layer for a level of a detector, or None without such a layer.

    Args:
      weights: Weights of a network with a published head.
      detector: Detector to load them into, which may have one level more or less at the fine end.
      level: Level of the detector; 0 is the finest.
    """
    theirs = level - (int(detector.arch.p2) - int(weights.arch.p2))
    kernel = weights.arrays.get(f"heads/{theirs}/localize/kernel")
    if theirs < 0 or kernel is None:
        return None
    anchors = np.asarray(weights.arch.anchors[theirs], np.float64)
    bias = weights.arrays[f"heads/{theirs}/localize/bias"]
    return Layer(kernel.reshape(kernel.shape[0], len(anchors), -1), bias.reshape(len(anchors), -1), anchors)


def layers_from_published(
    weights: Weights, detector: Detector, params: Any, width: Float[np.ndarray, "4"]
) -> Mapping[str, np.ndarray]:
    """Return localization layers, by path, that decode to about the same boxes as the published layers.

    If a level has no published layer, its layer is made from a fresh layer of the published kind with the mean bias of
    the finest published level. Its distributions then start with the same shape.

    Args:
      weights: Weights to start from.
      detector: Detector to load them into.
      params: Fresh parameters of the detector.
      width: Standard deviation of the distributions of (x, y, log w, log h), centre in strides, that are made from a
        regression. Distributions that are made from distributions have about their width.

    Returns:
      Arrays by path. They are missing if the objective has the same outputs as the weights or cannot start from them,
      if the numbers of anchors differ, or if the heads of the weights are of another kind.
    """
    make, arch = _maker(weights, detector.localization, width), detector.full_arch
    if make is None or not same_heads(weights, arch):
        return {}
    published = [published_layer(weights, detector, level) for level in range(len(arch.anchors))]
    known = [layer for layer in published if layer is not None]
    leaves = flat_leaves(params)
    made: dict[str, np.ndarray] = {}
    for level, (layer, sizes, stride) in enumerate(zip(published, arch.anchors, arch.strides, strict=True)):
        anchors = np.asarray(sizes, np.float64)
        path = f"heads/{level}/localize"
        fresh = np.asarray(leaves[f"{path}/kernel"])
        if layer is None and known:
            # The numbers of a fresh layer, in another shape, are a fresh layer of the published kind.
            mean = known[0].bias.mean(axis=0)
            drawn = np.resize(fresh, (fresh.shape[0], len(anchors), len(mean)))
            layer = Layer(drawn, np.broadcast_to(mean, drawn.shape[1:]), anchors)
        if layer is None or layer.kernel.shape[:2] != (fresh.shape[0], len(anchors)):
            continue
        kernel, bias = make(layer, anchors, stride)
        made[f"{path}/kernel"] = kernel.reshape(fresh.shape).astype(np.float32)
        made[f"{path}/bias"] = bias.reshape(-1).astype(np.float32)
    return made


_Maker = Callable[[Layer, Float[np.ndarray, "a 2"], int], tuple[np.ndarray, np.ndarray]]


def _maker(weights: Weights, objective: Localization, width: Float[np.ndarray, "4"]) -> _Maker | None:
    """Return the function that makes a layer of an objective from one of the weights, or None."""
    if decoding_of(objective) == weights.decoding:
        return None
    if weights.decoding == REGRESSION and isinstance(objective, StartsFromRegression):
        return lambda layer, anchors, stride: objective.layer_from_regression(*layer, anchors, stride, width)
    points = DISTRIBUTIONS.points
    if weights.decoding == DISTRIBUTIONS.decoding and isinstance(objective, StartsFromDistribution):
        return lambda layer, *_: objective.layer_from_distribution(layer.kernel, layer.bias, points)
    if weights.decoding == DISTANCES.decoding and isinstance(objective, StartsFromDistribution):
        wide = np.arange(-_BEYOND, points[-1] + _BEYOND + 1)
        return lambda layer, *_: objective.layer_from_distribution(*bells_around(layer.kernel, layer.bias, wide), wide)
    return None
