"""A trained detector as a StableHLO program, which JAX runs anywhere without this library."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from ugs_jax.detectors import Detector, Postprocess

PLATFORMS = ("cpu", "cuda", "tpu")
"""What an exported program runs on."""


def export_program(
    detector: Detector,
    params: Any,
    stats: Any,
    options: Postprocess,
    image_size: tuple[int, int],
    *,
    batch_size: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """Images to detections as one program with the weights inside, for `jax.export.deserialize(…).call`.

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

    def run(images: jax.Array) -> dict[str, jax.Array]:
        return detector.detect(params, stats, images, options)._asdict()

    (batch,) = export.symbolic_shape("b") if batch_size is None else (batch_size,)
    images = jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.uint8)
    return bytes(export.export(jax.jit(run), platforms=platforms)(images).serialize())
