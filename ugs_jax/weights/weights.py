"""Weights of a detector with what is needed to understand them, and a safe file of both: safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ugs_jax.atomic import write_atomically
from ugs_jax.detectors import Architecture, Detector
from ugs_jax.detectors.architecture import network_name
from ugs_jax.objectives import BoxRegression, DescribesDecoding, Localization
from ugs_jax.weights.published import flat_leaves, to_published

Arrays = dict[str, np.ndarray]
KEY = "ugs_jax"
"""Of our metadata in a safetensors file."""
REGRESSION = BoxRegression().decoding
"""Decoding of heads that regress boxes, as the published ones do."""


@dataclass(frozen=True)
class Weights:
    """Weights of one network.

    Attributes:
      arch: the network, with its anchors in px and the number of localization outputs.
      decoding: what those outputs mean, from `decoding_of`.
      arrays: parameters and batch statistics, float32, by path in our trees (`neck/tops/0/merge/conv/kernel`).
      classes: class names, if they are known.
      origin: where they come from, for people.
    """

    arch: Architecture
    decoding: str
    arrays: Arrays
    classes: tuple[str, ...] | None
    origin: str

    @property
    def network(self) -> str:
        """For people: `YOLOv5n`, `YOLOv5s-P2`, `TPH-YOLOv5x`."""
        return name_of(self.arch)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, as they are counted for the published networks."""
        return sum(array.size for name, array in self.arrays.items() if not name.endswith(("/mean", "/var")))

    def to_bytes(self) -> bytes:
        """A safetensors file with arrays by path, and the rest as JSON in its metadata."""
        about = {
            "size": self.arch.size,
            "kind": self.arch.kind,
            "p2": self.arch.p2,
            "anchors": self.arch.anchors,
            "num_classes": self.arch.classes,
            "num_outputs": self.arch.num_outputs,
            "second_stage": self.arch.second_stage,
            "quality": self.arch.quality,
            "decoding": self.decoding,
            "classes": self.classes,
            "origin": self.origin,
        }
        return safetensors.numpy.save(self.arrays, {KEY: json.dumps(about)})


def name_of(arch: Architecture) -> str:
    """For people: `YOLOv5n`, `YOLOv5s-P2`, `TPH-YOLOv5x`."""
    return network_name(arch.size, arch.kind, arch.p2)


def decoding_of(localization: Localization) -> str:
    """Return what raw outputs of an objective mean: layers with equal texts can be exchanged."""
    return localization.decoding if isinstance(localization, DescribesDecoding) else repr(localization)


def weights_of(
    detector: Detector, params: Any, stats: Any, *, classes: tuple[str, ...] | None = None, origin: str = ""
) -> Weights:
    """The weights of a detector, to be written or fitted into another.

    Args:
      detector: the network.
      params: its parameters, as `detector.init` returns them.
      stats: its batch statistics.
      classes: class names.
      origin: where they come from.
    """
    arch = detector.full_arch
    arrays = {**flat_arrays(params), **flat_arrays(stats)}
    return Weights(arch, decoding_of(detector.localization), arrays, classes, origin)


def published_arrays(weights: Weights) -> Arrays:
    """Weights by the names and in the layouts of YOLOv5, with all that a strict `load_state_dict` expects.

    Raises:
      ValueError: another network than YOLOv5, or a head that does not regress boxes, which it has no layer for.
    """
    if weights.arch.kind != "yolov5":
        raise ValueError(
            f"{weights.origin}: expected YOLOv5, got {weights.network}, whose layers are not named here as in its "
            "reference; write safetensors or stablehlo instead"
        )
    if weights.decoding != REGRESSION:
        raise ValueError(
            f"{weights.origin}: expected a head that regresses boxes, as YOLOv5 has, got {weights.decoding}; write "
            "safetensors or stablehlo instead"
        )
    return to_published(weights.arrays, weights.arch)


def flat_arrays(tree: Any) -> Arrays:
    """Leaves by path, as NumPy arrays."""
    return {path: np.asarray(leaf) for path, leaf in flat_leaves(tree).items()}


def write_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file that `read_weights` reads; nothing in it can run."""
    write_atomically(path, weights.to_bytes())
