"""Export of detectors as ONNX models: a translation of the traced function, primitive by primitive."""

from ugs_jax.weights.onnx.model import export_onnx

__all__ = ["export_onnx"]
