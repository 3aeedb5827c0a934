"""Detection by ONNX Runtime on the CPU, with a model that is exported in memory."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from ugs_jax.detectors import Detections, Postprocess, TrainableDetector
from ugs_jax.weights.onnx.model import export_onnx


def onnx_detector(
    detector: TrainableDetector, params: Any, stats: Any, options: Postprocess
) -> Callable[[Any], Detections]:
    """Return a function from images [b, h, w, 3] uint8 to detections in their px. Each size is exported once.

    Args:
      detector: Detector.
      params: Parameters of the detector, or their moving averages.
      stats: Batch statistics of the detector.
      options: Postprocessing, from network outputs to detections.

    Raises:
      ValueError: The package onnx or onnxruntime is not installed. Calls raise it for a detector that cannot be
        exported; see `export_onnx`.
    """
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"engine onnx: expected the packages onnx and onnxruntime, found no {package}; in a checkout of this "
                'project, pip install ".[onnx]"'
            )
    import onnxruntime

    @functools.cache
    def session_of(height: int, width: int) -> Any:
        model = export_onnx(detector, params, stats, options, (height, width))
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def detect(images: Any) -> Detections:
        session = session_of(*images.shape[1:3])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
        valid = np.arange(found["scores"].shape[1]) < found["count"][:, None]
        return Detections(found["boxes"], found["scores"], found["classes"], valid, found.get("deviation"))

    return detect
