"""Primitives of JAX that select elements by index or by value, as ONNX operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from ugs_jax.weights.onnx.shapes import sliced, squeeze
from ugs_jax.weights.onnx.tensors import Dim, Operand, Tensor, Tensors, axes_of, is_static


def gather(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return the elements of an array at indices along one axis, or a part of it at a constant place.

    Raises:
      ValueError: The primitive selects in another way.
    """
    x, index = operands
    numbers, graph = params["dimension_numbers"], tensors.graph
    if isinstance(x, Tensor) and isinstance(index, np.ndarray) and index.ndim == 1:
        return _at_constant_place(tensors, x, index, params)
    if not _is_along_one_axis(x, numbers, params["slice_sizes"]):
        raise ValueError(f"ONNX: expected elements that are selected along one axis, got {numbers}")
    (axis,), last = axes_of(numbers.start_index_map), len(index.shape) - 1
    batch, batch_of_index = axes_of(numbers.operand_batching_dims), axes_of(numbers.start_indices_batching_dims)
    rest = [each for each in range(len(x.shape)) if each != axis and each not in batch]
    found = [each for each in range(last) if each not in batch_of_index]
    # The axes of the index have their places in the result, in order, and so have the rest of the axes of the array.
    of_index = [each for each in range(len(shape)) if each not in numbers.offset_dims]
    of_rest = axes_of(numbers.offset_dims)
    where = inside = tensors.whole(index, [*batch_of_index, *found, last])
    if params["mode"] != GatherScatterMode.PROMISE_IN_BOUNDS:
        end = np.array(int(x.shape[axis]) - 1, np.int32)
        inside = graph.add("Min", graph.add("Max", where, np.array(0, np.int32)), end)
    place = graph.add("Cast", inside, to=np.dtype(np.int64))
    if not batch and params["mode"] != GatherScatterMode.FILL_OR_DROP:
        place = graph.add("Squeeze", place, np.array([last], np.int64))
        name = graph.add("Gather", tensors.whole(x), place, axis=axis)
        return tensors.tensor(name, shape, x.dtype, [*of_rest[:axis], *of_index, *of_rest[axis:]])
    name = graph.add("GatherND", tensors.whole(x, [*batch, axis, *rest]), place, batch_dims=len(batch))
    if params["mode"] == GatherScatterMode.FILL_OR_DROP:
        name = _filled(tensors, name, graph.add("Equal", where, inside), params, len(rest))
    order = [*(of_index[each] for each in (*batch_of_index, *found)), *of_rest]
    return tensors.tensor(name, shape, x.dtype, order)


def _is_along_one_axis(x: Operand, numbers: Any, sizes: Sequence[Any]) -> bool:
    """Return True if whole vectors are selected along one axis of fixed length."""
    if len(numbers.start_index_map) != 1 or tuple(numbers.collapsed_slice_dims) != tuple(numbers.start_index_map):
        return False
    single = {*numbers.start_index_map, *numbers.operand_batching_dims}
    whole = all(str(sizes[each]) == str(length) for each, length in enumerate(x.shape) if each not in single)
    return whole and is_static(x.shape[numbers.start_index_map[0]])


def _at_constant_place(tensors: Tensors, x: Tensor, index: np.ndarray, params: Any) -> Tensor:
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    starts = [0] * len(x.shape)
    for axis, start in zip(numbers.start_index_map, index.tolist(), strict=True):
        # A batch has at least one image.
        length = int(x.shape[axis] - sizes[axis]) if is_static(x.shape[axis]) else 0
        if params["mode"] == GatherScatterMode.FILL_OR_DROP and not 0 <= start <= length:
            raise ValueError(f"ONNX: expected a constant index in 0…{length}, got {start}")
        if not is_static(x.shape[axis]) and start:
            raise ValueError(f"ONNX: expected images that are treated alike, got a function of image {start}")
        starts[axis] = min(max(start, 0), length)
    limits = [start + size for start, size in zip(starts, sizes, strict=True)]
    part = sliced(tensors, x, starts, limits, (1,) * len(starts), sizes)
    gone = tuple(numbers.collapsed_slice_dims)
    left = tuple(size for axis, size in enumerate(sizes) if axis not in gone)
    return squeeze(tensors, [part], {"dimensions": gone}, left) if gone else part


def _filled(tensors: Tensors, name: str, valid: str, params: Any, trailing: int) -> str:
    """Replace the elements whose index lies outside the array."""
    if trailing == 0:
        valid = tensors.graph.add("Squeeze", valid, np.array([-1], np.int64))
    elif trailing > 1:
        valid = tensors.graph.add("Unsqueeze", valid, np.arange(-1, -trailing, -1))
    fill = np.array(np.nan if params["fill_value"] is None else params["fill_value"], np.float32)
    return tensors.graph.add("Where", valid, name, fill)


def top_k(tensors: Tensors, operands: Sequence[Operand], params: Any) -> list[Operand]:
    """Return the largest elements along an axis, largest first, and their indices. Of equal ones the first wins."""
    (x,) = operands
    shape = tuple(params["k"] if axis == params["axis"] else n for axis, n in enumerate(x.shape))
    count = np.array([int(params["k"])], np.int64)
    values, index = tensors.graph.add_many("TopK", [tensors.whole(x), count], 2, axis=int(params["axis"]))
    index = tensors.graph.add("Cast", index, to=np.dtype(np.int32))
    return [tensors.tensor(values, shape, x.dtype), tensors.tensor(index, shape, np.int32)]


def argmax(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return the index of the largest element along an axis. Of equal ones the first wins."""
    (axis,) = params["axes"]
    index = tensors.graph.add("ArgMax", tensors.whole(operands[0]), axis=int(axis), keepdims=0)
    index = tensors.graph.add("Cast", index, to=np.dtype(np.int32))
    return tensors.tensor(index, shape, np.int32)
