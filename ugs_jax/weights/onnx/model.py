"""A detector as an ONNX model from images to detections, with suppression inside and a description in its metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array

from data_pipeline.augment.warp import GREY
from ugs_jax._version import __version__
from ugs_jax.boxes import Kept
from ugs_jax.detectors import Detector, Postprocess, TrainableDetector
from ugs_jax.detectors.decode import LocalizedCandidates, detections_of, localize_candidates, rescore
from ugs_jax.weights.onnx.file import check_onnx, model_bytes
from ugs_jax.weights.onnx.fold import fold_channels
from ugs_jax.weights.onnx.graph import Graph
from ugs_jax.weights.onnx.suppression import suppress_overlaps
from ugs_jax.weights.onnx.tensors import Tensor, Tensors
from ugs_jax.weights.onnx.translate import translate
from ugs_jax.weights.program import batch_dimension
from ugs_jax.weights.weights import decoding_of


class _Found(NamedTuple):
    """Detections of a batch as the model returns them, best first; rows from `count` on are 0."""

    boxes: Any
    scores: Any
    classes: Any
    count: Any
    deviation: Any


def export_onnx(
    detector: TrainableDetector,
    params: Any,
    stats: Any,
    options: Postprocess,
    image_size: tuple[int, int],
    *,
    batch_size: int | None = None,
    class_names: tuple[str, ...] = (),
    tiles: Mapping[str, Any] | None = None,
) -> bytes:
    """Export the function from images to detections as an ONNX model. This needs the package onnx.

    The model takes uint8 RGB `images` [B, H, W, 3] and returns `boxes` [B, K, 4] (xyxy px of these images), `scores`
    [B, K], `classes` [B, K] (int32, 0-based) and `count` [B] (int32). The first `count` rows are the detections, best
    first; the others are 0. If the objective predicts it, `deviation` [B, K, 4] is the standard deviation of the sides,
    px. The metadata says how images are prepared (docs/deploy.md). The arithmetic is float32.

    Args:
      detector: Detector to export.
      params: Parameters of the detector, or their moving averages.
      stats: Batch statistics of the detector.
      options: Score threshold, suppression, voting, factors of the scores, and K = `max_detections`.
      image_size: Height and width, multiples of 32.
      batch_size: Batch size B; None for any size.
      class_names: Class names for the metadata.
      tiles: Size and overlap of the tiles of training, for the metadata, `{"tile": (640, 640), "overlap": 0.2}`; None
        if the detector was trained on whole images.

    Returns:
      Serialized model.

    Raises:
      ValueError: The package onnx is not installed, the batch size is below 1, the detector does not take images of
        this size, or it uses an operation that is not translated.
    """
    check_onnx()
    images = jax.ShapeDtypeStruct((batch_dimension(batch_size), *image_size, 3), jnp.uint8)
    classes: list[int] = []  # of every trace

    def candidates_of(images: Array) -> LocalizedCandidates:
        (levels, localizers), _ = network.apply(params, stats, images, train=False)
        classes.append(levels[0].classes.shape[-1])
        return rescore(
            localize_candidates(levels, localizers, network.localization, network.arch, options.pre_nms_topk), options
        )

    network = _in_float32(detector)
    traced, shapes = jax.make_jaxpr(candidates_of, return_shape=True)(images)
    names = class_names or tuple(map(str, range(classes[0])))
    if len(names) != classes[0]:
        raise ValueError(f"class_names: expected {classes[0]} names, one for each class, got {len(names)}")
    graph, outputs = _graph(traced, shapes, images, options, len(names))
    inputs = {"images": Tensor("images", images.shape, np.dtype(np.uint8), (0, 1, 2, 3))}
    return model_bytes(graph, inputs, outputs, _metadata(detector, options, image_size, names) | _as_json(tiles or {}))


def _graph(
    traced: ClosedJaxpr,
    shapes: LocalizedCandidates,
    images: jax.ShapeDtypeStruct,
    options: Postprocess,
    classes: int,
) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph from images to detections.

    Args:
      traced: Function from images to candidates.
      shapes: Shapes of the candidates.
      images: Shape of the images.
      options: Options of the postprocessing.
      classes: Number of classes.
    """
    graph = Graph()
    tensors = Tensors(graph, "images")
    stored = translate(tensors, traced, [tensors.tensor("images", images.shape, np.uint8)])
    candidates = jax.tree.unflatten(jax.tree.structure(shapes), stored)
    kept = suppress_overlaps(
        tensors,
        candidates.boxes,
        candidates.scores,
        candidates.classes,
        classes=classes,
        iou_threshold=options.iou_threshold,
        max_outputs=options.max_detections,
    )
    kept_shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in kept]
    finish = partial(_finished, options=options)
    last, shapes = jax.make_jaxpr(finish, return_shape=True)(shapes, *kept_shapes)
    names = [name for name in _Found._fields if getattr(shapes, name) is not None]
    results = dict(zip(names, translate(tensors, last, [*stored, *kept]), strict=True))
    outputs = {name: graph.add("Identity", tensors.whole(result)) for name, result in results.items()}
    graph.prune(outputs.values())
    fold_channels(graph, set(outputs.values()))
    graph.prune(outputs.values())
    described = {name: tensors.tensor(outputs[name], each.shape, each.dtype) for name, each in results.items()}
    return graph, described


def _finished(candidates: LocalizedCandidates, index: Array, valid: Array, *, options: Postprocess) -> _Found:
    found = jax.vmap(partial(detections_of, options=options))(candidates, Kept(index, valid))
    spare = options.max_detections - valid.shape[1]

    def padded(values: Array) -> Array:
        rows = valid.reshape(*valid.shape, *(1,) * (values.ndim - 2))
        return jnp.pad(jnp.where(rows, values, 0), ((0, 0), (0, spare), *((0, 0),) * (values.ndim - 2)))

    return _Found(
        padded(found.boxes),
        padded(found.scores),
        padded(found.classes),
        jnp.sum(valid, axis=1, dtype=jnp.int32),
        None if found.deviation is None else padded(found.deviation),
    )


def _in_float32(detector: TrainableDetector) -> TrainableDetector:
    if not isinstance(detector, Detector):
        return detector
    return replace(detector, arch=replace(detector.arch, dtype=jnp.float32))


def _metadata(
    detector: TrainableDetector, options: Postprocess, image_size: tuple[int, int], class_names: tuple[str, ...]
) -> dict[str, str]:
    """Return what a program that runs the model has to know, every value as JSON."""
    about: Mapping[str, Any] = {
        "class_names": class_names,
        "image_size": image_size,
        "channels": "RGB",
        "padding_value": GREY,
        "normalisation": "none: uint8 values 0 to 255; the model divides them by 255",
        "letterbox": "aspect ratio kept, centred; shrunk by area averaging, enlarged bilinearly",
        "strides": detector.arch.strides,
        "network": detector.arch.name if isinstance(detector, Detector) else type(detector).__name__,
        "objective": type(detector.localization).__name__,
        "decoding": decoding_of(detector.localization),
        "postprocess": asdict(options),
        "library": f"ugs_jax {__version__}",
    }
    return _as_json(about)


def _as_json(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
