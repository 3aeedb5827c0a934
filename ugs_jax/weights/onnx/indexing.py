"""Primitives of JAX that select elements by index or by value, as ONNX operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from ugs_jax.weights.onnx.shapes import sliced, squeeze
from ugs_jax.weights.onnx.tensors import Dim, Operand, Tensor, Tensors, is_static


def gather(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return the elements of an array at indices along one axis, or a part of it at a constant place.

    Raises:
      ValueError: The primitive selects in another way.
    """
    x, index = operands
    numbers, graph = params["dimension_numbers"], tensors.graph
    batch = len(numbers.operand_batching_dims)
    if isinstance(x, Tensor) and isinstance(index, np.ndarray) and index.ndim == 1 and not batch:
        return _at_constant_place(tensors, x, index, params)
    found = len(index.shape) - 1 - batch
    fills = params["mode"] == GatherScatterMode.FILL_OR_DROP
    if not _is_along_one_axis(x, numbers, params["slice_sizes"], batch, found) or (fills and _axis(numbers) != batch):
        raise ValueError(f"ONNX: expected elements that are selected along one axis, got {numbers}")
    where = inside = tensors.whole(index)
    if params["mode"] != GatherScatterMode.PROMISE_IN_BOUNDS:
        last = np.array(int(x.shape[_axis(numbers)]) - 1, np.int32)
        inside = graph.add("Min", graph.add("Max", where, np.array(0, np.int32)), last)
    place = graph.add("Cast", inside, to=np.dtype(np.int64))
    if batch:
        name = graph.add("GatherND", tensors.whole(x), place, batch_dims=batch)
    else:
        place = graph.add("Squeeze", place, np.array([found], np.int64))
        name = graph.add("Gather", tensors.whole(x), place, axis=_axis(numbers))
    if fills:
        name = _filled(tensors, name, graph.add("Equal", where, inside), params, len(shape) - batch - found)
    return tensors.tensor(name, shape, x.dtype)


def _axis(numbers: Any) -> int:
    return int(numbers.start_index_map[0])


def _is_along_one_axis(x: Operand, numbers: Any, sizes: Sequence[Any], batch: int, found: int) -> bool:
    """Return True if whole vectors are selected along one axis, which is the first after those of a batch."""
    leading = tuple(range(batch))
    if len(numbers.start_index_map) != 1 or tuple(numbers.collapsed_slice_dims) != tuple(numbers.start_index_map):
        return False
    axis = _axis(numbers)
    others = [each for each in range(len(x.shape)) if each != axis and each >= batch]
    offsets = [each if each < axis else each + found - 1 for each in others]
    return (
        tuple(numbers.operand_batching_dims) == tuple(numbers.start_indices_batching_dims) == leading
        and axis >= batch
        and (not batch or axis == batch)
        and is_static(x.shape[axis])
        and list(numbers.offset_dims) == offsets
        and all(str(sizes[each]) == str(x.shape[each]) for each in others)
    )


def _at_constant_place(tensors: Tensors, x: Tensor, index: np.ndarray, params: Any) -> Tensor:
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    starts = [0] * len(x.shape)
    for axis, start in zip(numbers.start_index_map, index.tolist(), strict=True):
        length = int(x.shape[axis] - sizes[axis])
        if params["mode"] == GatherScatterMode.FILL_OR_DROP and not 0 <= start <= length:
            raise ValueError(f"ONNX: expected a constant index in 0…{length}, got {start}")
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
