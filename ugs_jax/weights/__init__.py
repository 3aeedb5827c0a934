"""Import and export of weights: published checkpoints, safetensors, PyTorch, StableHLO, ONNX.

Files are read without PyTorch, and no code in them is executed.
"""

from ugs_jax.weights.fit import Report, check_size, fit_weights, load_weights
from ugs_jax.weights.onnx import export_onnx
from ugs_jax.weights.program import Predictions, export_program, predict_everywhere
from ugs_jax.weights.read import read_weights
from ugs_jax.weights.torch_write import torch_bytes
from ugs_jax.weights.weights import Weights, published_arrays, weights_of, write_weights

__all__ = [
    "Predictions",
    "Report",
    "Weights",
    "check_size",
    "export_onnx",
    "export_program",
    "fit_weights",
    "load_weights",
    "predict_everywhere",
    "published_arrays",
    "read_weights",
    "torch_bytes",
    "weights_of",
    "write_weights",
]
