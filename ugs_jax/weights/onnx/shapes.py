"""Primitives of JAX that move, select, repeat or join elements, as ONNX operators."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ugs_jax.weights.onnx.graph import stored_type
from ugs_jax.weights.onnx.tensors import Dim, Operand, Tensor, Tensors, axes_of, is_one, is_static

_INT = np.int64


def broadcast_in_dim(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return an array with new axes. Repeated elements are not stored."""
    (x, *_), axes = operands, axes_of(params["broadcast_dimensions"])
    x = _as_tensor(tensors, x)
    new = [axis for axis in range(len(shape)) if axis not in axes]
    kept = [axes[axis] for axis in x.order]
    order = tuple(sorted([*new, *kept]) if kept == sorted(kept) else [*new, *kept])
    name = x.name
    if new:
        places = np.array([place for place, axis in enumerate(order) if axis in new], _INT)
        name = tensors.graph.add("Unsqueeze", name, places)
    longer = [axes[axis] for axis, length in enumerate(x.shape) if is_one(length) and not is_one(shape[axes[axis]])]
    spread = {axes[axis] for axis in x.spread} | set(longer) | {axis for axis in new if not is_one(shape[axis])}
    return Tensor(name, shape, x.dtype, order, frozenset(spread))


def squeeze(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return an array without some of its axes of length 1."""
    x, gone = _as_tensor(tensors, operands[0]), set(axes_of(params["dimensions"]))
    places = np.array([place for place, axis in enumerate(x.order) if axis in gone], _INT)
    left = [axis for axis in range(len(x.shape)) if axis not in gone]
    order = tuple(left.index(axis) for axis in x.order if axis not in gone)
    name = tensors.graph.add("Squeeze", x.name, places) if len(places) else x.name
    return Tensor(name, shape, x.dtype, order, frozenset(left.index(axis) for axis in x.spread))


def reshape(tensors: Tensors, operands: Sequence[Operand], _: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return an array with the same elements in another shape."""
    x = _as_tensor(tensors, operands[0])
    if (repeats := _repeats(x, shape)) is not None:
        return _repeated(tensors, x, shape, repeats)
    free = [axis for axis, length in enumerate(shape) if not is_static(length)]
    lengths = (
        np.array([-1 if axis in free else int(n) for axis, n in enumerate(shape)], _INT) if len(free) < 2 else None
    )
    name = tensors.graph.add("Reshape", tensors.whole(x), tensors.lengths(shape) if lengths is None else lengths)
    return tensors.tensor(name, shape, x.dtype)


def _repeats(x: Tensor, shape: tuple[Dim, ...]) -> list[int] | None:
    """Return how often the elements along every axis are repeated, if the reshape of a map does nothing but that."""
    if len(shape) != 4 or not x.spread or x.dtype != np.float32:
        return None
    axes, repeats = [axis for axis in range(len(x.shape)) if axis not in x.spread], []
    if len(axes) != 4:
        return None
    for place, axis in enumerate(axes):
        following = range(axis + 1, axes[place + 1] if place < 3 else len(x.shape))
        if not all(is_static(x.shape[each]) for each in following):
            return None
        repeats.append(math.prod(int(x.shape[each]) for each in following))
    same = all(str(x.shape[axis] * n) == str(length) for axis, n, length in zip(axes, repeats, shape, strict=True))
    return repeats if same and axes[0] == 0 else None


def _repeated(tensors: Tensors, x: Tensor, shape: tuple[Dim, ...], repeats: list[int]) -> Tensor:
    """Return a map enlarged by nearest-neighbour interpolation, in the order in which it is stored."""
    axes = [axis for axis in range(len(x.shape)) if axis not in x.spread]
    order = [axes.index(axis) for axis in x.order if axis not in x.spread]
    places = np.array([place for place, axis in enumerate(x.order) if axis in x.spread], _INT)
    name, scales = tensors.graph.add("Squeeze", x.name, places), np.array([repeats[axis] for axis in order], np.float32)
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return tensors.tensor(tensors.graph.add("Resize", name, "", scales, **options), shape, x.dtype, order)


def transpose(_: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return an array with its axes in another order. Nothing is stored anew."""
    (x,) = operands
    assert isinstance(x, Tensor)
    place = {axis: new for new, axis in enumerate(axes_of(params["permutation"]))}
    return Tensor(
        x.name, shape, x.dtype, tuple(place[axis] for axis in x.order), frozenset(place[axis] for axis in x.spread)
    )


def concatenate(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return arrays joined along an axis."""
    stored = [each for each in operands if isinstance(each, Tensor)]
    order, dtype = max(stored, key=lambda each: each.stored_size).order, stored[0].dtype
    names = [tensors.whole(each, order) for each in operands]
    name = tensors.graph.add("Concat", *names, axis=order.index(params["dimension"]))
    return tensors.tensor(name, shape, dtype, order)


def stack(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return arrays joined along a new axis."""
    axis = np.array([params["axis"]], _INT)
    names = [tensors.graph.add("Unsqueeze", tensors.whole(each), axis) for each in operands]
    dtype = next(each.dtype for each in operands if isinstance(each, Tensor))
    return tensors.tensor(tensors.graph.add("Concat", *names, axis=int(axis[0])), shape, dtype)


def slice_(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return a part of an array."""
    (x,) = operands
    assert isinstance(x, Tensor)
    strides = params["strides"] or (1,) * len(shape)
    return sliced(tensors, x, params["start_indices"], params["limit_indices"], strides, shape)


def split(tensors: Tensors, operands: Sequence[Operand], params: Any) -> list[Operand]:
    """Return an array in several parts along an axis."""
    (x,), axis = operands, params["axis"]
    assert isinstance(x, Tensor)
    ends, parts = np.cumsum(params["sizes"]).tolist(), list[Operand]()
    for size, end in zip(params["sizes"], ends, strict=True):
        shape = tuple(size if each == axis else length for each, length in enumerate(x.shape))
        starts = [end - size if each == axis else 0 for each in range(len(shape))]
        limits = [end if each == axis else length for each, length in enumerate(x.shape)]
        parts.append(sliced(tensors, x, starts, limits, (1,) * len(shape), shape))
    return parts


def dynamic_slice(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return a part of an array at a constant place.

    Raises:
      ValueError: The place is computed.
    """
    x, *starts = operands
    assert isinstance(x, Tensor)
    if not all(isinstance(start, np.ndarray) for start in starts):
        raise ValueError("ONNX: expected slices at constant places, got a computed place; use --format stablehlo")
    first = [
        min(max(int(np.asarray(start)), 0), int(n - size)) if is_static(n) else 0
        for start, n, size in zip(starts, x.shape, params["slice_sizes"], strict=True)
    ]
    return sliced(tensors, x, first, [a + b for a, b in zip(first, shape, strict=True)], (1,) * len(shape), shape)


def sliced(
    tensors: Tensors, x: Tensor, starts: Sequence[Any], limits: Sequence[Any], strides: Sequence[int], shape: Any
) -> Tensor:
    """Return every stride-th element from start to limit along each axis.

    Args:
      tensors: Tensors of the graph.
      x: Array.
      starts: First index along every axis.
      limits: Index after the last along every axis.
      strides: Steps along every axis.
      shape: Shape of the result.
    """
    cut = [
        axis
        for axis, (start, limit, stride) in enumerate(zip(starts, limits, strides, strict=True))
        if axis not in x.spread and not (start == 0 and str(limit) == str(x.shape[axis]) and stride == 1)
    ]
    name = x.name
    if cut:
        numbers = [[int(values[axis]) for axis in cut] for values in (starts, limits)]
        where, steps = [x.order.index(axis) for axis in cut], [int(strides[axis]) for axis in cut]
        name = tensors.graph.add("Slice", name, *(np.array(each, _INT) for each in (*numbers, where, steps)))
    spread = frozenset(axis for axis in x.spread if not is_one(shape[axis]))
    return Tensor(name, tuple(shape), x.dtype, x.order, spread)


def pad(tensors: Tensors, operands: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return an array with a margin.

    Raises:
      ValueError: Elements are inserted between those of the array, or the margin has a computed value.
    """
    x, value = operands
    config = params["padding_config"]
    if not isinstance(x, Tensor) or not isinstance(value, np.ndarray) or any(inner for _, _, inner in config):
        raise ValueError("ONNX: expected margins of a constant value, got others; use --format stablehlo")
    if all(low == high == 0 for low, high, _ in config):
        return x
    margins = np.array([int(config[axis][side]) for side in (0, 1) for axis in x.order], _INT)
    name = tensors.graph.add("Pad", tensors.whole(x, x.order), margins, value.astype(x.dtype), mode="constant")
    return tensors.tensor(name, shape, x.dtype, x.order)


def iota(tensors: Tensors, _: Sequence[Operand], params: Any, shape: tuple[Dim, ...]) -> Tensor:
    """Return the index along an axis of fixed length, for an array with the length of the batch along another."""
    axis = params["dimension"]
    index = np.arange(int(shape[axis]), dtype=stored_type(params["dtype"]))
    index = index.reshape([-1 if each == axis else 1 for each in range(len(shape))])
    spread = frozenset(each for each, length in enumerate(shape) if each != axis and not is_one(length))
    return Tensor(tensors.graph.constant(index), shape, index.dtype, tuple(range(len(shape))), spread)


def _as_tensor(tensors: Tensors, x: Operand) -> Tensor:
    if isinstance(x, Tensor):
        return x
    return tensors.tensor(tensors.graph.constant(x), x.shape, stored_type(x.dtype))


SHAPES = {
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "dynamic_slice": dynamic_slice,
    "iota": iota,
    "pad": pad,
    "reshape": reshape,
    "slice": slice_,
    "squeeze": squeeze,
    "stack": stack,
    "transpose": transpose,
}
"""Primitives that move elements."""
