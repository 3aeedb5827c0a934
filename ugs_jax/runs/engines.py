"""Engines: programs that compute the detections of a batch. JAX is the default; ONNX Runtime is faster on CPUs."""

from functools import partial
from typing import Literal

import jax

from ugs_jax.detectors import Postprocess, TrainableDetector
from ugs_jax.inference import ImageDetector
from ugs_jax.runs.state import Averages, TrainState
from ugs_jax.weights.onnx import onnx_detector

Engine = Literal["jax", "onnx"]


def image_detector(
    detector: TrainableDetector, state: TrainState | Averages, options: Postprocess, engine: Engine = "jax"
) -> ImageDetector:
    """Return a trained detector for `detect_image`, with the averaged parameters of the run.

    Args:
      detector: Detector.
      state: Training state from `load_for_inference`, or the state of a `LoadedDetector`.
      options: Postprocessing, from network outputs to detections.
      engine: `jax` compiles for the devices of JAX, `onnx` exports to ONNX Runtime on the CPU. Each size of images is
        compiled or exported once.

    Raises:
      ValueError: A package of the engine is not installed. Calls raise it for a detector that cannot be exported.
    """
    if engine == "onnx":
        return onnx_detector(detector, state.ema_params, state.ema_stats, options)
    detect = jax.jit(lambda params, stats, images: detector.detect(params, stats, images, options))
    return partial(detect, state.ema_params, state.ema_stats)
