"""Export of a trained detector as a program that contains its weights: StableHLO, or ONNX without suppression."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float

from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Postprocess, TrainableDetector, class_scores, localize, localize_again

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms on which an exported StableHLO program runs by default."""


class Predictions(NamedTuple):
    """Predictions of a detector at all N anchors, ordered by level (finest first), row, column and anchor.

    Attributes:
      boxes: Boxes, xyxy, px of the network's input.
      scores: Objectness · class probability.
    """

    boxes: Float[Array, "b n 4"]
    scores: Float[Array, "b n c"]


def predict_everywhere(detector: TrainableDetector, params: Any, stats: Any, images: Any) -> Predictions:
    """Return boxes and scores of every anchor, without suppression.

    Args:
      detector: Detector to run.
      params: Parameters of the detector.
      stats: Batch statistics of the detector.
      images: Images, uint8 [B, H, W, 3].
    """
    outputs, _ = detector.apply(params, stats, images, train=False)
    boxes, scores = [], []
    arch = detector.arch
    for level, localizer, sizes, stride in zip(*outputs, arch.anchors, arch.strides, strict=True):
        raw = localize(localizer, level.features)
        _, rows, columns, count, _ = raw.shape
        cells = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), -1)[None, :, :, None] * stride
        shape = (1, rows, columns, count, 2)
        center, size = (jnp.broadcast_to(jnp.asarray(part, jnp.float32), shape) for part in (cells, np.array(sizes)))
        anchors = Anchors(center, size, jnp.full(shape, stride, jnp.float32))
        raw = localize_again(localizer, detector.localization, level.features, raw, anchors, stride=stride)
        decoded = detector.localization.decode(raw, anchors)
        score = class_scores(level)
        boxes.append(decoded.reshape(images.shape[0], rows * columns * count, 4))
        scores.append(score.reshape(images.shape[0], rows * columns * count, score.shape[-1]))
    return Predictions(jnp.concatenate(boxes, axis=1), jnp.concatenate(scores, axis=1))


def export_program(
    detector: TrainableDetector,
    params: Any,
    stats: Any,
    options: Postprocess,
    image_size: tuple[int, int],
    *,
    batch_size: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """Export the function from images to detections as StableHLO.

    `jax.export.deserialize(…).call` runs it without this library.

    The program takes uint8 images [B, H, W, 3] and returns a dict of `boxes` [B, K, 4] (xyxy px of these images),
    `scores` [B, K], `classes` [B, K] (0-based) and `valid` [B, K] (False for padding).

    Args:
      detector: Detector to export.
      params: Parameters of the detector, or their moving averages.
      stats: Batch statistics of the detector.
      options: Score threshold, suppression, and K = `max_detections`.
      image_size: Height and width, multiples of 32.
      batch_size: Batch size B; None for any size.
      platforms: Platforms on which the program runs.

    Returns:
      Serialized program.

    Raises:
      ValueError: The detector does not take images of this size.
    """

    def run(images: Array) -> dict[str, Array]:
        return detector.detect(params, stats, images, options)._asdict()

    (batch,) = export.symbolic_shape("b") if batch_size is None else (batch_size,)
    images = jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.uint8)
    return bytes(export.export(jax.jit(run), platforms=platforms)(images).serialize())


def export_onnx(
    detector: TrainableDetector, params: Any, stats: Any, image_size: tuple[int, int], *, batch_size: int | None = None
) -> bytes:
    """Export the function from images to `Predictions` as an ONNX model. This needs jax2onnx.

    The model takes uint8 `images` [B, H, W, 3] and returns `boxes` [B, N, 4] and `scores` [B, N, C] of all anchors.
    Apply non-maximum suppression to its outputs.

    Args:
      detector: Detector to export.
      params: Parameters of the detector, or their moving averages.
      stats: Batch statistics of the detector.
      image_size: Height and width, multiples of 32.
      batch_size: Batch size B; None for any size.

    Returns:
      Serialized model.

    Raises:
      ValueError: jax2onnx is not installed, or the detector does not take images of this size.
    """
    try:
        from jax2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected jax2onnx, which writes ONNX, got: {error}; install it as docs/weights.md says"
        ) from error

    def run(images: Array) -> tuple[Array, Array]:
        predictions = predict_everywhere(detector, params, stats, images)
        return predictions.boxes, predictions.scores

    images = SimpleNamespace(shape=("B" if batch_size is None else batch_size, *image_size, 3), dtype=jnp.uint8)
    model = to_onnx(run, [images], model_name="detector", input_names=["images"], output_names=["boxes", "scores"])
    return bytes(model.SerializeToString())
