"""Translation of a traced JAX function into an ONNX graph, one primitive after the other.

What depends on constants alone is computed at once. A function that the traced function calls is written in the place
of the call.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from ugs_jax.weights.onnx.blocks import BLOCKS
from ugs_jax.weights.onnx.contractions import REDUCTIONS, convolution, dot_general, reduction
from ugs_jax.weights.onnx.graph import stored_type
from ugs_jax.weights.onnx.indexing import argmax, gather, top_k
from ugs_jax.weights.onnx.pointwise import LOGICAL, POINTWISE, UNCHANGED, pointwise
from ugs_jax.weights.onnx.shapes import SHAPES, split
from ugs_jax.weights.onnx.tensors import Operand, Tensor, Tensors, is_static

_CALLS = {
    **dict.fromkeys(("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}
_ARRAYS: dict[str, Callable[..., Tensor]] = {
    **SHAPES,
    **{name: partial(reduction, operator) for name, operator in REDUCTIONS.items()},
    "argmax": argmax,
    "conv_general_dilated": convolution,
    "dot_general": dot_general,
    "gather": gather,
}
_SEVERAL = {"split": split, "top_k": top_k}


def translate(tensors: Tensors, traced: ClosedJaxpr, inputs: Sequence[Operand]) -> list[Operand]:
    """Write a traced function into a graph and return its results.

    Args:
      tensors: Tensors of the graph.
      traced: Traced function.
      inputs: Arguments of the function.

    Raises:
      ValueError: The function uses a primitive, a number type or a shape for which nothing is written.
    """
    return _run(tensors, traced.jaxpr, traced.consts, inputs)


def _run(tensors: Tensors, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Operand]) -> list[Operand]:
    known: dict[Any, Operand] = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Operand:
        return (
            np.asarray(variable.val, _described(variable).dtype) if isinstance(variable, Literal) else known[variable]
        )

    for equation in _needed(jaxpr):
        results = _equation(tensors, equation, [read(each) for each in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    return [read(each) for each in jaxpr.outvars]


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Return the equations that the results depend on."""
    wanted = {each for each in jaxpr.outvars if not isinstance(each, Literal)}
    needed = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            wanted.update(each for each in equation.invars if not isinstance(each, Literal))
            needed.append(equation)
    return needed[::-1]


def _equation(tensors: Tensors, equation: JaxprEqn, operands: list[Operand]) -> list[Operand]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = params[_CALLS[name]]
        if (block := BLOCKS.get(params.get("name", ""))) and isinstance(operands[0], Tensor):
            return [block(tensors, operands, inner.jaxpr)]
        return _run(tensors, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands)
    shapes = [tuple(_described(each).shape) for each in equation.outvars]
    if all(isinstance(each, np.ndarray) for each in operands) and all(is_static(n) for shape in shapes for n in shape):
        results = equation.primitive.bind(*operands, **params)
        return [np.asarray(each) for each in (results if equation.primitive.multiple_results else [results])]
    if name in UNCHANGED:
        return operands
    if name in _SEVERAL:
        return _SEVERAL[name](tensors, operands, params)
    return [_array(tensors, name, equation, operands, shapes[0])]


def _described(variable: Any) -> Any:
    """Return shape and type of a variable of the traced function."""
    return variable.aval


def _array(tensors: Tensors, name: str, equation: JaxprEqn, operands: list[Operand], shape: tuple[Any, ...]) -> Operand:
    dtype, params, graph = stored_type(_described(equation.outvars[0]).dtype), equation.params, tensors.graph
    if name == "convert_element_type":
        if isinstance(operands[0], Tensor) and operands[0].dtype == dtype:
            return operands[0]
        return pointwise(tensors, operands, shape, dtype, lambda x: graph.add("Cast", x, to=dtype))
    if name == "dim_as_value":
        batch = graph.add("Squeeze", tensors.batch(params["dim"]), np.array([0], np.int64))
        return tensors.tensor(graph.add("Cast", batch, to=dtype), shape, dtype)
    if name in POINTWISE and not (name in LOGICAL and dtype != np.bool_):
        return pointwise(tensors, operands, shape, dtype, partial(POINTWISE[name], graph, params))
    if name in _ARRAYS:
        return _ARRAYS[name](tensors, operands, params, shape)
    raise ValueError(
        f"ONNX: expected a network of operations that ONNX has, got {equation.primitive.name} of {dtype.name}; use "
        "--format stablehlo, which takes any"
    )
