"""Primitives of JAX that sum over axes: convolution, products of matrices, reductions, as ONNX operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ugs_jax.weights.onnx.tensors import Dim, Operand, Tensor, Tensors, axes_of

CHANNELS_FIRST = (0, 3, 1, 2)
"""Order in which ONNX stores a map [b, h, w, c]."""


def convolution(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return a convolution. Its result is stored with the channels first.

    Raises:
      ValueError: The convolution is transposed, or its batch is grouped.
    """
    image, kernel = operands
    numbers = params["dimension_numbers"]
    if any(each != 1 for each in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise ValueError("ONNX: expected plain convolutions, got a transposed or grouped one; use --format stablehlo")
    name = tensors.graph.add(
        "Conv",
        tensors.whole(image, axes_of(numbers.lhs_spec)),
        tensors.whole(kernel, axes_of(numbers.rhs_spec)),
        strides=[int(each) for each in params["window_strides"]],
        dilations=[int(each) for each in params["rhs_dilation"]],
        group=int(params["feature_group_count"]),
        pads=[int(each[side]) for side in (0, 1) for each in params["padding"]],
    )
    return tensors.tensor(name, shape, np.float32, axes_of(numbers.out_spec))


def dot_general(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return a product of arrays, summed over some axes.

    A product of a map with a constant matrix becomes a 1×1 convolution if the map is stored with its channels first.
    """
    left, right = operands
    (summed, summed_right), (batch, batch_right) = [map(axes_of, pair) for pair in params["dimension_numbers"]]
    if isinstance(right, np.ndarray) and right.ndim == 2 and not batch:
        matrix = right if summed_right == (0,) else right.T
        if isinstance(left, Tensor) and summed == (len(left.shape) - 1,):
            if left.order == CHANNELS_FIRST:
                name = tensors.graph.add("Conv", tensors.whole(left, left.order), matrix.T[:, :, None, None])
                return tensors.tensor(name, shape, np.float32, CHANNELS_FIRST)
            return tensors.tensor(tensors.graph.add("MatMul", tensors.whole(left), matrix), shape, np.float32)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names = [[next(letters) for _ in left.shape], [next(letters) for _ in right.shape]]
    for axis, other in [*zip(batch, batch_right, strict=True), *zip(summed, summed_right, strict=True)]:
        names[1][other] = names[0][axis]
    taken, taken_right = {*batch, *summed}, {*batch_right, *summed_right}
    result = [names[0][axis] for axis in batch]
    result += [letter for axis, letter in enumerate(names[0]) if axis not in taken]
    result += [letter for axis, letter in enumerate(names[1]) if axis not in taken_right]
    orders = [each.order if isinstance(each, Tensor) else tuple(range(each.ndim)) for each in operands]
    terms = ["".join(letter[axis] for axis in order) for letter, order in zip(names, orders, strict=True)]
    stored = [tensors.whole(each, order) for each, order in zip(operands, orders, strict=True)]
    name = tensors.graph.add("Einsum", *stored, equation=f"{terms[0]},{terms[1]}->{''.join(result)}")
    return tensors.tensor(name, shape, np.float32)


def reduction(
    operator: str, tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]
) -> Tensor:
    """Return the sum, maximum or minimum over some axes."""
    (x,) = operands
    assert isinstance(x, Tensor)
    gone = axes_of(params["axes"])
    left = [axis for axis in range(len(x.shape)) if axis not in gone]
    order = [left.index(axis) for axis in x.order if axis not in gone]
    name, places = tensors.whole(x, x.order), [place for place, axis in enumerate(x.order) if axis in gone]
    if operator == "ReduceSum":  # in this version the only one whose axes are an input
        name = tensors.graph.add(operator, name, np.array(places, np.int64), keepdims=0)
    else:
        name = tensors.graph.add(operator, name, axes=places, keepdims=0)
    return tensors.tensor(name, shape, x.dtype, order)


REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
"""ONNX operators of the reductions."""
