"""Transfer of a training state between the devices of all processes and the memory of the first process."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ugs_jax.runs.processes import from_first_process, is_first_process
from ugs_jax.runs.state import TrainState

_Shaped = jax.Array | jax.ShapeDtypeStruct
_MESSAGE = 1 << 26
"""Largest number of bytes of arrays that are sent in one message."""


def gather_state(state: TrainState) -> TrainState | None:
    """Return a copy of a state as NumPy arrays in the first process, and None in the others.

    All processes have to call this function. Arrays that are split over several processes are gathered one at a time,
    so that a device needs space for the largest of them only.
    """
    leaves = jax.tree.leaves(state)
    for leaf in leaves:
        if is_first_process() and (leaf.is_fully_addressable or leaf.is_fully_replicated):
            leaf.copy_to_host_async()
    copies = [_whole(leaf) for leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(state), copies) if is_first_process() else None


def spread_state(state: TrainState | None, like: TrainState) -> TrainState:
    """Return a state of NumPy arrays of the first process as arrays on the devices of all processes.

    All processes have to call this function.

    Args:
      state: State in the first process; None in the other processes.
      like: State with the wanted shapes, types and shardings.
    """
    wanted = jax.tree.leaves(like)
    values = jax.tree.leaves(state) if jax.process_count() == 1 else _sent(jax.tree.leaves(state), wanted)
    placed = [_placed(value, leaf) for value, leaf in zip(values, wanted, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def host_shapes(like: TrainState) -> TrainState:
    """Return NumPy arrays with the shapes and types of a state. They take no memory."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), like)


def _whole(leaf: jax.Array) -> np.ndarray | None:
    if not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        mesh = leaf.sharding.mesh  # type: ignore[attr-defined]  # parts are made by `state_sharding`
        leaf = jax.jit(_same, out_shardings=NamedSharding(mesh, P()))(leaf)
    return np.array(leaf) if is_first_process() else None


def _same(leaf: Any) -> Any:
    """Identity. It is defined at the top level, so that it is compiled once for all arrays of one shape."""
    return leaf


def _sent(given: list[np.ndarray], wanted: list[_Shaped]) -> Iterator[np.ndarray]:
    """Send arrays of the first process to every process. Small arrays share a message, because messages are slow."""
    start = 0
    while start < len(wanted):
        stop, size = start + 1, _size(wanted[start])
        while stop < len(wanted) and size + _size(wanted[stop]) <= _MESSAGE:
            stop, size = stop + 1, size + _size(wanted[stop])
        data = from_first_process(b"".join(value.tobytes() for value in given[start:stop]))
        offset = 0
        for leaf in wanted[start:stop]:
            yield np.frombuffer(data, leaf.dtype, math.prod(leaf.shape), offset).reshape(leaf.shape)
            offset += _size(leaf)
        start = stop


def _size(leaf: _Shaped) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _placed(value: np.ndarray, like: _Shaped) -> jax.Array:
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: value[index])
