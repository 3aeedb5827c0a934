"""Scales and shifts of channels, such as those of batch normalisation, moved into the convolution before them."""

from collections import Counter

import numpy as np

from ugs_jax.weights.onnx.graph import Graph, Node


def fold_channels(graph: Graph, outputs: set[str]) -> None:
    """Replace each convolution that is scaled and shifted by channel by one with other weights.

    Args:
      graph: Graph that is changed.
      outputs: Names of tensors that must stay.
    """
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    made = {node.outputs[0]: node for node in graph.nodes if node.operator == "Conv"}
    kept: list[Node] = []
    for node in graph.nodes:
        convolution = next((made[name] for name in node.inputs if name in made), None)
        if convolution is None or uses[convolution.outputs[0]] > 1 or convolution.outputs[0] in outputs:
            kept.append(node)
        elif _folded(graph, convolution, node):
            convolution.outputs = node.outputs  # in the place of the later node; nothing in between reads it
            made[node.outputs[0]] = convolution
        else:
            kept.append(node)
    graph.nodes = kept


def _folded(graph: Graph, convolution: Node, node: Node) -> bool:
    """Change the weights of a convolution as the node after it would change its result; return False if none does."""
    if node.operator not in ("Mul", "Add", "Sub") or convolution.inputs[1] not in graph.constants:
        return False
    if node.operator == "Sub" and node.inputs[0] != convolution.outputs[0]:
        return False
    (other,) = [name for name in node.inputs if name != convolution.outputs[0]] or [""]
    kernel = graph.constants[convolution.inputs[1]]
    values = graph.constants.get(other)
    if values is None or values.shape != (1, len(kernel), 1, 1):
        return False
    bias = graph.constants[convolution.inputs[2]] if len(convolution.inputs) > 2 else np.zeros(len(kernel), np.float32)
    if node.operator == "Mul":
        kernel, bias = kernel * values.reshape(-1, 1, 1, 1), bias * values.ravel()
    else:
        bias = bias + values.ravel() * (1 if node.operator == "Add" else -1)
    convolution.inputs = [convolution.inputs[0], graph.constant(kernel), graph.constant(bias)]
    return True
