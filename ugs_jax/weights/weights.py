"""Weights of a detector with their description, and a safe file for both: safetensors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ugs_jax.atomic import write_atomically
from ugs_jax.detectors import Architecture, Detector, YOLOv5, YOLOv5u, YOLOv8
from ugs_jax.detectors.networks import name_of_network
from ugs_jax.objectives import BoxRegression, DescribesDecoding, Localization
from ugs_jax.weights import published, published_yolov8
from ugs_jax.weights.known_weights import FAMILIES
from ugs_jax.weights.layouts import flat_leaves

Arrays = dict[str, np.ndarray]
KEY = "ugs_jax"
"""Key of our metadata in a safetensors file."""
REGRESSION = BoxRegression().decoding
"""Value of `decoding_of` for heads that regress boxes, as the published ones do."""


@dataclass(frozen=True)
class Weights:
    """Weights of one network.

    Attributes:
      arch: Architecture of the network, with its anchors in px and its number of localization outputs.
      decoding: Meaning of those outputs, from `decoding_of`.
      arrays: Parameters and batch statistics, float32, by path in our trees (`neck/tops/0/merge/conv/kernel`).
      classes: Class names, or None if they are unknown.
      origin: Source of the weights, for display.
      inference: Settings with which the network detects, as JSON values by name (`image_size`, `dtype`, `localization`,
        `postprocess`), or None if they are unknown.
      notes: Assumptions that were made when the weights were read, as whole sentences.
    """

    arch: Architecture
    decoding: str
    arrays: Arrays
    classes: tuple[str, ...] | None
    origin: str
    inference: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """Display name of the network: `YOLOv5n`, `YOLOv5s-P2`, `TPH-YOLOv5x`."""
        return self.arch.name

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters, counted as for the published networks."""
        return sum(array.size for name, array in self.arrays.items() if not name.endswith(("/mean", "/var")))

    def to_bytes(self) -> bytes:
        """Return a safetensors file with the arrays by path, and the description as JSON in its metadata."""
        about: dict[str, Any] = {
            "size": self.arch.size,
            "kind": name_of_network(self.arch.network),
            "p2": self.arch.p2,
            "p2_joins": self.arch.p2_joins,
            "anchors": self.arch.anchors,
            "num_classes": self.arch.classes,
            "num_outputs": self.arch.num_outputs,
            "second_stage": self.arch.second_stage,
            "quality": self.arch.quality,
            "decoding": self.decoding,
            "classes": self.classes,
            "origin": self.origin,
        }
        if self.inference is not None:
            about["inference"] = dict(self.inference)
        return safetensors.numpy.save(self.arrays, {KEY: json.dumps(about)})


def decoding_of(localization: Localization) -> str:
    """Describe how raw outputs become boxes. Layers with equal descriptions can replace each other."""
    return localization.decoding if isinstance(localization, DescribesDecoding) else repr(localization)


def weights_of(
    detector: Detector, params: Any, stats: Any, *, classes: tuple[str, ...] | None = None, origin: str = ""
) -> Weights:
    """Return the weights of a detector, to write them or to load them into another detector.

    Args:
      detector: Detector with the weights.
      params: Parameters, as `detector.init` returns them.
      stats: Batch statistics.
      classes: Class names, or None if they are unknown.
      origin: Source of the weights, for display.
    """
    arch = detector.full_arch
    arrays = {**flat_arrays(params), **flat_arrays(stats)}
    return Weights(arch, decoding_of(detector.localization), arrays, classes, origin)


def published_arrays(weights: Weights) -> Arrays:
    """Return weights with the names and layouts of the published networks, complete for a strict `load_state_dict`.

    Raises:
      ValueError: The network is another one, or its head has another objective than the published one, so that the
        published network has no layer for it.
    """
    network = weights.arch.network
    if network not in (YOLOv5, YOLOv5u) and not issubclass(network, YOLOv8):
        raise ValueError(
            f"{weights.origin}: expected {FAMILIES}, got {weights.network}, whose layers have other names than in its "
            "reference; write safetensors or stablehlo instead"
        )
    if weights.arch.beside:
        raise ValueError(
            f"{weights.origin}: expected a network whose P2 joins the bottom-up path, as in its reference, got "
            f"{weights.network}; write safetensors or stablehlo instead"
        )
    decoding = REGRESSION if network is YOLOv5 else published_yolov8.objective_of(network).decoding
    if weights.decoding != decoding:
        raise ValueError(
            f"{weights.origin}: expected a head with {decoding}, as {weights.network} has, got {weights.decoding}; "
            "write safetensors or stablehlo instead"
        )
    naming = published if network is YOLOv5 else published_yolov8
    return naming.to_published(weights.arrays, weights.arch)


def flat_arrays(tree: Any) -> Arrays:
    """Return the leaves of a tree by path, as NumPy arrays."""
    return {path: np.asarray(leaf) for path, leaf in flat_leaves(tree).items()}


def write_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file that `read_weights` reads. It contains no code.

    Args:
      path: File to write.
      weights: Weights to write.
    """
    write_atomically(path, weights.to_bytes())
