"""Serialization of a graph as an ONNX file, checked by the package onnx."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from ugs_jax._version import __version__
from ugs_jax.weights.onnx.graph import OPSET, Graph
from ugs_jax.weights.onnx.tensors import Tensor, is_static

_IR_VERSION = 8  # of the file format: that of ONNX 1.12, the first with operators of version 17


def check_onnx() -> None:
    """Check that the package onnx is installed.

    Raises:
      ValueError: It is not.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ValueError(
            'ONNX: expected the package onnx, found none; in a checkout of this project, pip install ".[onnx]"'
        )


def model_bytes(
    graph: Graph, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> bytes:
    """Return the file, after onnx has checked its operators, shapes and types.

    Args:
      graph: Graph to serialize.
      inputs: Tensors that the graph takes, by name.
      outputs: Tensors that the graph makes, by the name that they get.
      metadata: Description of the model, text by key.
    """
    import onnx
    from onnx import helper, numpy_helper

    renamed = {tensor.name: name for name, tensor in outputs.items()}
    nodes = [
        helper.make_node(
            node.operator,
            node.inputs,
            [renamed.get(each, each) for each in node.outputs],
            name=node.outputs[0],
            **{key: _attribute(value) for key, value in node.attributes.items()},
        )
        for node in graph.nodes
    ]

    def described(tensors: Mapping[str, Tensor]) -> list[Any]:
        return [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(tensor.dtype),
                [int(length) if is_static(length) else "batch" for length in tensor.shape],
            )
            for name, tensor in tensors.items()
        ]

    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "detector", described(inputs), described(outputs), constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="ugs_jax",
        producer_version=__version__,
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _attribute(value: Any) -> Any:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
