"""Engines: programs that compute the detections of a batch. JAX is the default; ONNX Runtime is faster on CPUs."""

import functools
import importlib.util
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from ugs_jax.detectors import Detections, Postprocess, TrainableDetector
from ugs_jax.inference import ImageDetector
from ugs_jax.runs.state import Averages, TrainState
from ugs_jax.weights.onnx import export_onnx

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
        return _in_onnx_runtime(detector, state, options)
    detect = jax.jit(lambda params, stats, images: detector.detect(params, stats, images, options))
    return partial(detect, state.ema_params, state.ema_stats)


def _in_onnx_runtime(detector: TrainableDetector, state: TrainState | Averages, options: Postprocess) -> ImageDetector:
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"engine onnx: expected the packages onnx and onnxruntime, found no {package}; pip install {package}"
            )
    import onnxruntime

    @functools.cache
    def session_of(height: int, width: int) -> Any:
        model = export_onnx(detector, state.ema_params, state.ema_stats, options, (height, width))
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def detect(images: Any) -> Detections:
        session = session_of(*images.shape[1:3])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
        valid = np.arange(found["scores"].shape[1]) < found["count"][:, None]
        return Detections(found["boxes"], found["scores"], found["classes"], valid, found.get("deviation"))

    return detect
