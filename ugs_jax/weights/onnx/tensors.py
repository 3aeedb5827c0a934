"""Tensors of the graph with their layout, so that axes are moved and repeated only where an operator needs it.

A network in JAX has its channels last; ONNX convolutions have them first. Instead of two transpositions around each
convolution, every tensor knows in which order its axes are stored. Elementwise operators keep any order.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ugs_jax.weights.onnx.graph import Graph, stored_type

Dim = Any
"""Length of an axis: an integer, or the symbolic batch size."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array of the traced function, stored as a tensor of the graph.

    Attributes:
      name: Name of the stored tensor.
      shape: Shape of the array. The batch size may be symbolic.
      dtype: Type of the stored numbers.
      order: Axis of the array that every stored axis holds.
      spread: Axes that are stored with length 1 although they are longer: all their elements are equal.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    spread: frozenset[int] = frozenset()

    @property
    def stored_size(self) -> int:
        """Number of stored elements of one image."""
        return math.prod(int(n) for axis, n in enumerate(self.shape) if axis not in self.spread and is_static(n))


Operand = Tensor | np.ndarray
"""An array of the traced function: a tensor, or a constant."""


def axes_of(numbers: Iterable[Any]) -> tuple[int, ...]:
    """Return axes as Python integers; some of JAX are NumPy's."""
    return tuple(int(number) for number in numbers)


def is_static(length: Dim) -> bool:
    """Return True for a length that does not depend on the batch size."""
    return isinstance(length, int | np.integer)


def is_one(length: Dim) -> bool:
    """Return True for the length 1."""
    return is_static(length) and int(length) == 1


class Tensors:
    """Makes tensors of a graph available in the layout that an operator needs.

    Attributes:
      graph: Graph that grows.
    """

    def __init__(self, graph: Graph, images: str) -> None:
        self.graph = graph
        self._images = images

    def tensor(self, name: str, shape: Sequence[Dim], dtype: Any, order: Sequence[int] | None = None) -> Tensor:
        """Return a tensor that is stored whole.

        Args:
          name: Name of the stored tensor.
          shape: Shape of the array.
          dtype: Type of the numbers.
          order: Axis that every stored axis holds; None if the axes are not moved.
        """
        return Tensor(name, tuple(shape), stored_type(dtype), tuple(range(len(shape)) if order is None else order))

    def whole(self, operand: Operand, order: Sequence[int] | None = None) -> str:
        """Return the name of the tensor with its axes in an order, and with all repeated elements.

        Args:
          operand: Tensor or constant.
          order: Axis that every stored axis shall hold; None for the order of the array.
        """
        rank = len(operand.shape)
        wanted = tuple(range(rank)) if order is None else tuple(order)
        if isinstance(operand, np.ndarray):
            return self.graph.constant(operand.transpose(wanted))
        name = self.compact(operand, wanted)
        if not operand.spread:
            return name
        shape = self.lengths([operand.shape[axis] for axis in wanted])
        return self.graph.once(("Expand", name, shape), lambda: self.graph.add("Expand", name, shape))

    def compact(self, operand: Operand, order: Sequence[int]) -> str:
        """Return the name of the tensor with its axes in an order; axes of equal elements keep length 1.

        Args:
          operand: Tensor or constant.
          order: Axis that every stored axis shall hold.
        """
        if isinstance(operand, np.ndarray):
            return self.graph.constant(without_repetition(operand).transpose(tuple(order)))
        moved = tuple(operand.order.index(axis) for axis in order)
        if moved == tuple(range(len(moved))):
            return operand.name
        key = ("Transpose", operand.name, moved)
        return self.graph.once(key, lambda: self.graph.add("Transpose", operand.name, perm=list(moved)))

    def lengths(self, shape: Sequence[Dim]) -> str:
        """Return the name of a constant or computed tensor with these lengths, int64."""
        if all(is_static(length) for length in shape):
            return self.graph.constant(np.array([int(length) for length in shape], np.int64))
        parts = [self.batch(n) if not is_static(n) else np.array([int(n)], np.int64) for n in shape]
        names = [part if isinstance(part, str) else self.graph.constant(part) for part in parts]
        key = ("lengths", *names)
        return self.graph.once(key, lambda: self.graph.add("Concat", *names, axis=0))

    def batch(self, length: Dim) -> str:
        """Return the name of the batch size of the images, int64 [1], for the symbolic length that stands for it.

        Raises:
          ValueError: The length is another function of the batch size.
        """
        if not str(length).isidentifier():
            raise ValueError(
                f"ONNX: expected axes of fixed length or of the length of the batch, got {length}; use a fixed batch "
                "size or --format stablehlo"
            )

        def read() -> str:
            shape = self.graph.add("Shape", self._images)
            return self.graph.add("Slice", shape, *(np.array([n], np.int64) for n in (0, 1, 0)))

        return self.graph.once("batch", read)


def without_repetition(array: np.ndarray) -> np.ndarray:
    """Return a constant with length 1 along every axis along which its elements are equal."""
    for axis, length in enumerate(array.shape):
        if length > 1:
            first = array.take([0], axis)
            if np.array_equal(array, np.broadcast_to(first, array.shape)):
                array = first
    return array
