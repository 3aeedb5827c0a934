"""A training state between the devices of all processes and the memory of the first process."""

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
"""Bytes of arrays that are sent together."""


def gather_state(state: TrainState) -> TrainState | None:
    """A copy of a state as NumPy arrays in the first process, None in the others; all have to call this.

    Arrays that lie in parts on several processes are put together one by one, so that a device needs room for only the
    largest of them.
    """
    leaves = jax.tree.leaves(state)
    for leaf in leaves:
        if is_first_process() and (leaf.is_fully_addressable or leaf.is_fully_replicated):
            leaf.copy_to_host_async()
    copies = [_whole(leaf) for leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(state), copies) if is_first_process() else None


def spread_state(found: TrainState | None, like: TrainState) -> TrainState:
    """A state of NumPy arrays that the first process has, on the devices of all; all have to call this.

    Args:
      found: the state; None in the other processes.
      like: shapes, types and shardings.
    """
    wanted = jax.tree.leaves(like)
    values = jax.tree.leaves(found) if jax.process_count() == 1 else _sent(jax.tree.leaves(found), wanted)
    placed = [_placed(value, leaf) for value, leaf in zip(values, wanted, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def host_shapes(like: TrainState) -> TrainState:
    """NumPy arrays of the shapes and types of a state, which take no memory."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), like)


def _whole(leaf: jax.Array) -> np.ndarray | None:
    if not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        mesh = leaf.sharding.mesh  # type: ignore[attr-defined]  # parts are made by `state_sharding`
        leaf = jax.jit(_same, out_shardings=NamedSharding(mesh, P()))(leaf)
    return np.array(leaf) if is_first_process() else None


def _same(leaf: Any) -> Any:
    """At the top level, so that it is compiled once for all arrays of one shape."""
    return leaf


def _sent(given: list[np.ndarray], wanted: list[_Shaped]) -> Iterator[np.ndarray]:
    """Arrays of the first process in every process; small ones together, as each message takes its time."""
    start = 0
    while start < len(wanted):
        stop, size = start + 1, _size(wanted[start])
        while stop < len(wanted) and size + _size(wanted[stop]) <= _MESSAGE:
            stop, size = stop + 1, size + _size(wanted[stop])
        data = from_first_process(b"".join(value.tobytes() for value in given[start:stop]))
        place = 0
        for leaf in wanted[start:stop]:
            yield np.frombuffer(data, leaf.dtype, math.prod(leaf.shape), place).reshape(leaf.shape)
            place += _size(leaf)
        start = stop


def _size(leaf: _Shaped) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _placed(value: np.ndarray, like: _Shaped) -> jax.Array:
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: value[index])
