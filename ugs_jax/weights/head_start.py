"""Localization layers made from published regression layers, for objectives that can start from regression."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from ugs_jax.detectors import Detector
from ugs_jax.objectives import StartsFromRegression
from ugs_jax.weights.layouts import flat_leaves
from ugs_jax.weights.weights import REGRESSION, Weights, decoding_of

START_WIDTH = (0.35, 0.35, 0.35, 0.35)
"""Default standard deviation with which distributions of (x, y, log w, log h) start."""


def regression_layer(
    weights: Weights, detector: Detector, level: int
) -> tuple[Float[np.ndarray, "c a 4"], Float[np.ndarray, "a 4"], Float[np.ndarray, "a 2"]] | None:
    """Return kernel, bias and anchors of the published layer for a level of a detector, or None without such a layer.

    Args:
      weights: Weights of a network that regresses boxes.
      detector: Detector to load them into, which may have one level more or less at the fine end.
      level: Level of the detector; 0 is the finest.
    """
    theirs = level - (int(detector.arch.p2) - int(weights.arch.p2))
    kernel = weights.arrays.get(f"heads/{theirs}/localize/kernel")
    if weights.decoding != REGRESSION or theirs < 0 or kernel is None:
        return None
    anchors = np.asarray(weights.arch.anchors[theirs], np.float64)
    bias = weights.arrays[f"heads/{theirs}/localize/bias"]
    return kernel.reshape(kernel.shape[0], len(anchors), 4), bias.reshape(len(anchors), 4), anchors


def layers_from_regression(
    weights: Weights, detector: Detector, params: Any, width: Float[np.ndarray, "4"]
) -> Mapping[str, np.ndarray]:
    """Return localization layers, by path, that decode to about the same boxes as the published regression layers.

    If a level has no published layer, its layer is made from a fresh regression layer with the mean bias of the finest
    published level. Its distributions then start with the same shape.

    Args:
      weights: Weights to start from.
      detector: Detector to load them into.
      params: Fresh parameters of the detector.
      width: Standard deviation of the predicted distributions of (x, y, log w, log h), centre in strides.

    Returns:
      Arrays by path. They are missing if the weights do not regress boxes, if the objective has the same outputs or
      cannot start from a regression layer, or if the numbers of anchors differ.
    """
    objective, arch = detector.localization, detector.full_arch
    if decoding_of(objective) == weights.decoding or not isinstance(objective, StartsFromRegression):
        return {}
    published = [regression_layer(weights, detector, level) for level in range(len(arch.anchors))]
    known = [layer for layer in published if layer is not None]
    leaves = flat_leaves(params)
    made: dict[str, np.ndarray] = {}
    for level, (layer, sizes, stride) in enumerate(zip(published, arch.anchors, arch.strides, strict=True)):
        anchors = np.asarray(sizes, np.float64)
        path = f"heads/{level}/localize"
        fresh = np.asarray(leaves[f"{path}/kernel"])
        if layer is None and known:
            # The first four outputs of a fresh layer are a fresh regression layer.
            drawn = fresh.reshape(fresh.shape[0], len(anchors), -1)[..., :4]
            layer = drawn, np.broadcast_to(known[0][1].mean(axis=0), (len(anchors), 4)), anchors
        if layer is None or layer[0].shape[:2] != (fresh.shape[0], len(anchors)):
            continue
        kernel, bias = objective.layer_from_regression(*layer, anchors, stride, width)
        made[f"{path}/kernel"] = kernel.reshape(fresh.shape).astype(np.float32)
        made[f"{path}/bias"] = bias.reshape(-1).astype(np.float32)
    return made
