"""A trained detector as a program with its weights inside: StableHLO, or ONNX up to non-maximum suppression."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float

from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Postprocess, TrainableDetector, localize, localize_again

PLATFORMS = ("cpu", "cuda", "tpu")
"""What an exported StableHLO program runs on."""


class Predictions(NamedTuple):
    """What a detector says at all N anchors: levels finest first, then rows, columns, anchors.

    Attributes:
      boxes: xyxy px of the network's input.
      scores: objectness · class probability.
    """

    boxes: Float[Array, "b n 4"]
    scores: Float[Array, "b n c"]


def predict_everywhere(detector: TrainableDetector, params: Any, stats: Any, images: Any) -> Predictions:
    """Boxes and scores of every anchor, without suppression.

    Args:
      detector: the network.
      params: parameters.
      stats: batch statistics.
      images: uint8 [B, H, W, 3].
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
        score = jax.nn.sigmoid(level.objectness)[..., None] * jax.nn.sigmoid(level.classes)
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
    """Images to detections as StableHLO, for `jax.export.deserialize(…).call`, which needs nothing of this library.

    The program takes uint8 images [B, H, W, 3] and returns a dict of `boxes` [B, K, 4] (xyxy px of these images),
    `scores` [B, K], `classes` [B, K] (0-based) and `valid` [B, K] (False for padding).

    Args:
      detector: the network.
      params: parameters, or their averages.
      stats: batch statistics.
      options: score threshold, suppression, and K = `max_detections`.
      image_size: height and width, multiples of 32.
      batch_size: B; None for any.
      platforms: what the program can run on.

    Raises:
      ValueError: an image size that the detector does not take.
    """

    def run(images: Array) -> dict[str, Array]:
        return detector.detect(params, stats, images, options)._asdict()

    (batch,) = export.symbolic_shape("b") if batch_size is None else (batch_size,)
    images = jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.uint8)
    return bytes(export.export(jax.jit(run), platforms=platforms)(images).serialize())


def export_onnx(
    detector: TrainableDetector, params: Any, stats: Any, image_size: tuple[int, int], *, batch_size: int | None = None
) -> bytes:
    """Images to `Predictions` as an ONNX model; needs jax2onnx.

    The model takes uint8 `images` [B, H, W, 3] and returns `boxes` [B, N, 4] and `scores` [B, N, C] of all anchors;
    suppress what comes out of it.

    Args:
      detector: the network.
      params: parameters, or their averages.
      stats: batch statistics.
      image_size: height and width, multiples of 32.
      batch_size: B; None for any.

    Raises:
      ValueError: jax2onnx is not installed, or an image size that the detector does not take.
    """
    try:
        from jax2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected jax2onnx, which writes ONNX, got: {error}; install it as docs/weights.md says"
        ) from error

    def run(images: Array) -> tuple[Array, Array]:
        found = predict_everywhere(detector, params, stats, images)
        return found.boxes, found.scores

    images = SimpleNamespace(shape=(batch_size or "B", *image_size, 3), dtype=jnp.uint8)
    model = to_onnx(run, [images], model_name="detector", input_names=["images"], output_names=["boxes", "scores"])
    return bytes(model.SerializeToString())
