"""An ONNX graph under construction: nodes and constants by name. The onnx package is needed only to serialize it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OPSET = 17
"""Version of the standard ONNX operators that the models use."""


@dataclass(eq=False)
class Node:
    """One operator of the graph.

    Attributes:
      operator: Name of a standard ONNX operator.
      inputs: Names of its inputs; an empty name is an input that is left out.
      outputs: Names of its outputs.
      attributes: Attributes of the operator.
    """

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


class Graph:
    """Nodes in an order in which they can run, and constants.

    Attributes:
      nodes: Nodes of the graph.
      constants: Constant arrays by name. Equal small constants share a name.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._made: dict[Any, str] = {}
        self._count = 0

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Append an operator with one output and return the name of the output.

        Args:
          operator: Name of a standard ONNX operator.
          *inputs: Names of tensors, or constant arrays.
          **attributes: Attributes of the operator.
        """
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(self, operator: str, inputs: Iterable[str | np.ndarray], outputs: int, **attributes: Any) -> list[str]:
        """Append an operator and return the names of its outputs.

        Args:
          operator: Name of a standard ONNX operator.
          inputs: Names of tensors, or constant arrays.
          outputs: Number of outputs.
          **attributes: Attributes of the operator.
        """
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        made = [self._fresh(operator) for _ in range(outputs)]
        self.nodes.append(Node(operator, names, made, attributes))
        return made

    def constant(self, array: np.ndarray) -> str:
        """Return the name of a constant; half-precision numbers become float32."""
        array = np.asarray(array, stored_type(array.dtype), order="C")
        if array.size > 64:
            return self._store(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = self._store(array)
        return self._names[key]

    def once(self, key: Any, make: Callable[[], str]) -> str:
        """Return the name that was made for a key before, or make it.

        Args:
          key: Description of the tensor.
          make: Function that appends nodes and returns the name of the tensor.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def prune(self, outputs: Iterable[str]) -> None:
        """Remove nodes and constants that no output needs."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.outputs):
                needed |= set(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: array for name, array in self.constants.items() if name in needed}

    def _store(self, array: np.ndarray) -> str:
        name = self._fresh("constant")
        self.constants[name] = array
        return name

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem.lower()}_{self._count}"


def stored_type(dtype: Any) -> np.dtype[Any]:
    """Return the type in which the graph stores numbers of a type.

    Raises:
      ValueError: The graph has no such type.
    """
    name = np.dtype(dtype).name
    if name in ("bfloat16", "float16"):
        return np.dtype(np.float32)
    if name not in ("float32", "int32", "int64", "uint8", "bool"):
        raise ValueError(f"ONNX: expected float32, bfloat16, int32, uint8 or bool, got {name}; use --format stablehlo")
    return np.dtype(dtype)
