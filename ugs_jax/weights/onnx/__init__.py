"""Detectors as ONNX models: export, a translation of the traced function, and detection by ONNX Runtime."""

from ugs_jax.weights.onnx.model import export_onnx
from ugs_jax.weights.onnx.runtime import onnx_detector

__all__ = ["export_onnx", "onnx_detector"]
