"""Elementwise primitives of JAX as ONNX operators. They keep the layout of their operands."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ugs_jax.weights.onnx.graph import Graph, stored_type
from ugs_jax.weights.onnx.tensors import Operand, Tensor, Tensors, is_one, without_repetition

Write = Callable[..., str]
"""Function from a graph, the parameters of the primitive and names of operands to the name of the result."""


def pointwise(
    tensors: Tensors, operands: Sequence[Operand], shape: tuple[Any, ...], dtype: Any, write: Write
) -> Tensor:
    """Return the result of an elementwise operator.

    Args:
      tensors: Tensors of the graph.
      operands: Operands, each of the rank of the result, with or without axes of length 1, or scalars.
      shape: Shape of the result.
      dtype: Type of the result.
      write: Function from names of operands to the name of the result.
    """
    operands = [without_repetition(each) if isinstance(each, np.ndarray) else each for each in operands]
    stored = [each for each in operands if isinstance(each, Tensor) and len(each.shape) == len(shape)]
    order = max(stored, key=lambda each: each.stored_size).order if stored else tuple(range(len(shape)))
    names = [tensors.compact(each, order if len(each.shape) == len(shape) else ()) for each in operands]
    single = [axis for axis in range(len(shape)) if all(_is_single(each, axis, len(shape)) for each in operands)]
    spread = frozenset(axis for axis in single if not is_one(shape[axis]))
    return Tensor(write(*names), shape, stored_type(dtype), order, spread)


def _is_single(operand: Operand, axis: int, rank: int) -> bool:
    if len(operand.shape) < rank:
        return True
    return is_one(operand.shape[axis]) or (isinstance(operand, Tensor) and axis in operand.spread)


def _operator(name: str) -> Write:
    return lambda graph, _, *names: graph.add(name, *names)


def _one() -> np.ndarray:
    return np.array(1, np.float32)


def _remainder(graph: Graph, _: Any, a: str, b: str) -> str:
    """Return the remainder of integers with the sign of the dividend: division truncates."""
    return graph.add("Sub", a, graph.add("Mul", graph.add("Div", a, b), b))


def _power(graph: Graph, params: Any, x: str) -> str:
    whole = functools.reduce(lambda a, b: graph.add("Mul", a, b), [x] * abs(params["y"]))
    return whole if params["y"] > 0 else graph.add("Reciprocal", whole)


ONE_TO_ONE = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "max": "Max",
    "min": "Min",
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "gt": "Greater",
    "lt": "Less",
    "ge": "GreaterOrEqual",
    "le": "LessOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "xor": "Xor",
    "not": "Not",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
}
"""ONNX operators with the meaning of a primitive; those of logic serve booleans only."""

LOGICAL = ("and", "or", "xor", "not")
"""Primitives that are bitwise for integers, for which the standard operators of this version have no counterpart."""

POINTWISE: dict[str, Write] = {
    **{primitive: _operator(name) for primitive, name in ONE_TO_ONE.items()},
    "ne": lambda graph, _, a, b: graph.add("Not", graph.add("Equal", a, b)),
    "rem": _remainder,
    "is_finite": lambda graph, _, x: graph.add("Less", graph.add("Abs", x), np.array(np.inf, np.float32)),
    "square": lambda graph, _, x: graph.add("Mul", x, x),
    "integer_pow": _power,
    "rsqrt": lambda graph, _, x: graph.add("Reciprocal", graph.add("Sqrt", x)),
    "erfc": lambda graph, _, x: graph.add("Sub", _one(), graph.add("Erf", x)),
    "log1p": lambda graph, _, x: graph.add("Log", graph.add("Add", x, _one())),
    "expm1": lambda graph, _, x: graph.add("Sub", graph.add("Exp", x), _one()),
    "clamp": lambda graph, _, low, x, high: graph.add("Min", graph.add("Max", x, low), high),
    "select_n": lambda graph, _, which, first, second: graph.add("Where", which, second, first),
}
"""Elementwise primitives."""

UNCHANGED = ("stop_gradient", "copy", "copy_p", "reduce_precision", "optimization_barrier", "sharding_constraint")
"""Primitives whose results are their operands."""
