"""Detector, parameters and settings from a file of weights, without a run folder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from data_pipeline import DataError, Dataset, LoaderOptions
from ugs_jax.detectors import Detector, Postprocess
from ugs_jax.detectors.networks import name_of_network
from ugs_jax.experiment.config import Experiment, Network
from ugs_jax.experiment.serialize import from_json, to_json
from ugs_jax.objectives import BoxRegression, Localization
from ugs_jax.runs.sharding import replicated
from ugs_jax.runs.state import Averages
from ugs_jax.weights import Weights, published_yolov8
from ugs_jax.weights.layouts import flat_leaves
from ugs_jax.weights.weights import REGRESSION, decoding_of

_LARGEST, _DEEPEST = 1e6, 20
"""Largest number and deepest nesting in the settings of a file. Grids and options are far smaller."""


@dataclass(frozen=True)
class NoData:
    """Data set of an experiment that was made from a file of weights, which names none.

    Attributes:
      file: Name of the file.
    """

    file: str

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Raise a DataError that asks for a data set.

        Args:
          split: Split of a data set.
          cache_dir: Folder of built data sets.
        """
        raise DataError(
            f"{self.file}: expected a data set for {split}, got none, as a file of weights names no data. Fix: add "
            "--data with a data.yaml of YOLO, COCO annotations or a folder of VisDrone."
        )


def inference_settings(detector: Detector, experiment: Experiment) -> dict[str, Any]:
    """Return the settings with which a detector detects, as JSON values for the metadata of a file of weights.

    Args:
      detector: Detector with a fitted objective.
      experiment: Experiment with the image size and the postprocessing.
    """
    return {
        "image_size": list(experiment.loader.image_size),
        "dtype": jnp.dtype(detector.full_arch.dtype).name,
        "localization": to_json(detector.localization),
        "postprocess": to_json(experiment.postprocess),
    }


def experiment_of(weights: Weights, name: str, where: str) -> tuple[Experiment, Detector]:
    """Return an experiment with the network, objective and settings of weights, and its detector. It has no data set.

    Published weights do not say how they are used. They get the objective of their published head, 640 × 640 px and the
    default postprocessing.

    Args:
      weights: Weights from `read_weights`.
      name: Name of the experiment.
      where: File or URL, for error messages.

    Raises:
      ValueError: The file does not say how its boxes are decoded, or its settings cannot be used.
    """
    settings = weights.inference
    if settings is None and weights.decoding not in _PUBLISHED:
        raise ValueError(
            f"{where}: expected the settings of its objective, {weights.decoding}, in the metadata, got none, because "
            "an older version wrote the file; write it again by `ugs export`"
        )
    arch = weights.arch
    try:
        if settings is None:
            localization, postprocess, size, dtype = _PUBLISHED[weights.decoding], Postprocess(), (640, 640), "float32"
        else:
            localization, postprocess, size, dtype = _settings(settings)
        options: dict[str, Any] = {"dtype": dtype, "kind": name_of_network(arch.network), "p2_joins": arch.p2_joins}
        network = Network(arch.size, arch.p2, arch.anchors, **options)
        loader = LoaderOptions(image_size=size)
        experiment = Experiment(name, NoData(where), localization, network, loader, postprocess=postprocess)
        detector = network.build(arch.classes, arch.anchors, localization)
        if replace(detector.full_arch, dtype=arch.dtype) != arch or decoding_of(localization) != weights.decoding:
            raise ValueError(f"weights of {weights.decoding} with {arch.num_outputs} outputs and {localization}")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        detail = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{where}: expected settings in the metadata as `ugs export` writes them, got: {detail}; write the file "
            "again"
        ) from error
    return experiment, detector


_PUBLISHED: dict[str, Localization] = {
    REGRESSION: BoxRegression(),
    published_yolov8.DISTRIBUTIONS.decoding: published_yolov8.DISTRIBUTIONS,
    published_yolov8.DISTANCES.decoding: published_yolov8.DISTANCES,
}
"""Objectives of the published heads, by their decoding."""


def _settings(values: Any) -> tuple[Localization, Postprocess, tuple[int, int], str]:
    _check_numbers(values)
    localization, postprocess = from_json(values["localization"]), from_json(values["postprocess"])
    height, width = (int(side) for side in values["image_size"])
    if not isinstance(postprocess, Postprocess) or values["dtype"] not in ("float32", "bfloat16"):
        raise ValueError(f"postprocess {values['postprocess']!r:.80} and dtype {values['dtype']!r:.80}")
    return localization, postprocess, (height, width), values["dtype"]


def _check_numbers(value: Any, depth: int = 0) -> None:
    """Check that nothing large is built from the settings of a file, which may be hostile."""
    if depth > _DEEPEST:
        raise ValueError(f"values nested more than {_DEEPEST} times")
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST:
        raise ValueError(f"{json.dumps(value):.20}, where numbers up to {_LARGEST:g} are expected")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(item, depth + 1)


def state_of(weights: Weights, detector: Detector, mesh: Mesh) -> Averages:
    """Return the parameters and batch statistics of weights on the devices of a mesh, as a detector takes them.

    Args:
      weights: Weights from `read_weights`.
      detector: Detector of their architecture and objective.
      mesh: Device mesh.
    """

    def filled(tree: Any) -> Any:
        leaves = [jnp.asarray(weights.arrays[path], leaf.dtype) for path, leaf in flat_leaves(tree).items()]
        return jax.device_put(jax.tree.unflatten(jax.tree.structure(tree), leaves), replicated(mesh))

    params, stats = detector.shapes()
    return Averages(filled(params), filled(stats))
