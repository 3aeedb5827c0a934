"""Compaction: apply a function to the rows that a mask marks, so that padding costs nothing.

The arrays of candidates have room for every box that an image may hold, but few of their rows are positive. Here the
marked rows of every image are taken in chunks, and the number of chunks is that of the fullest image of the (global)
batch. The result is exact for any mask, in one program, without a limit on the number of rows that may be marked.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def candidates() -> int:
    """Return the number of candidates of a level, of each image, whose losses are computed at a time.

    A CPU works on few rows at a time as fast as on many, and small chunks have fewer empty rows. An accelerator does
    not, and may wait for the host at each chunk (not measured).
    """
    return 32 if jax.default_backend() == "cpu" else 1024


def few() -> int:
    """Return the number of candidates of an image up to which computing all of them is as fast, and compiles faster."""
    return (16 if jax.default_backend() == "cpu" else 4) * candidates()


Function = Callable[[Any, Any, Any, Any], Any]
"""Function of parameters, maps of an image, rows and constants of rows, each row by itself."""


def at_marked(
    function: Function,
    params: Any,
    rows: Any,
    constants: Any,
    mask: Bool[Array, "b n"],
    source: Int[Array, "b n"] | None = None,
    *,
    maps: Any = None,
    chunk: int,
) -> Any:
    """Apply a function to the marked rows of every image; the results of all other rows do not count.

    Only the inputs are kept for the backward pass, which runs the function again. The gradients with respect to
    parameters, maps and rows are those of the function at all rows with the other rows masked. Forward-mode
    differentiation of these gradients, as for Hessian-vector products, works too.

    Args:
      function: Function from parameters, the maps of an image, n of its rows and their constants to arrays [n, …] of
        their results. Row i of the results depends on row i alone, on the parameters and on the maps.
      params: Parameters, a pytree.
      rows: Pytree of arrays [b, n, …].
      constants: Pytree of arrays [b, n, …] that carry no gradient.
      mask: Mask of the marked rows.
      source: Index, in `rows`, of the row that each of the n rows is; by default row i is i. With it, `rows` may be
        shorter or longer than n.
      maps: Pytree of arrays [b, …], which every row of an image may read anywhere.
      chunk: Number of rows that are processed at a time.
    """
    return _in_chunks(function, chunk, params, maps, rows, constants, mask, source)


def _values(
    function: Function, chunk: int, params: Any, maps: Any, rows: Any, constants: Any, mask: Array, source: Array | None
) -> Any:
    chunks, order = _order(mask, chunk)
    apply = jax.vmap(function, in_axes=(None, 0, 0, 0))

    def add(i: Array, results: Any) -> Any:
        index = _slots(order, i, chunk)
        taken = apply(params, maps, _take(rows, _through(source, index)), _take(constants, index))
        return _put(results, index, taken)

    shapes = jax.eval_shape(lambda: apply(params, maps, _take(rows, mask.astype(jnp.int32)), constants))
    return jax.lax.fori_loop(0, chunks, add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))


_in_chunks = jax.custom_vjp(_values, nondiff_argnums=(0, 1))


def _forward(
    function: Function, chunk: int, params: Any, maps: Any, rows: Any, constants: Any, mask: Array, source: Array | None
) -> tuple[Any, tuple[Any, ...]]:
    inputs = (params, maps, rows, constants, mask, source)
    return _values(function, chunk, *inputs), inputs


def _backward(function: Function, chunk: int, inputs: tuple[Any, ...], cotangents: Any) -> tuple[Any, ...]:
    params, maps, rows, constants, mask, source = inputs
    chunks, order = _order(mask, chunk)

    @jax.vmap
    def pull_back(maps: Any, rows: Any, constants: Any, cotangents: Any) -> tuple[Any, Any, Any]:
        of_inputs = lambda params, maps, rows: function(params, maps, rows, constants)  # noqa: E731
        return jax.vjp(of_inputs, params, maps, rows)[1](cotangents)

    def add(i: Array, totals: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        index = _slots(order, i, chunk)
        position = _through(source, index)
        own = _take(cotangents, index, fill=0)
        *of_both, of_rows = pull_back(maps, _take(rows, position), _take(constants, index), own)
        sums = jax.tree.map(jnp.add, totals[:2], tuple(of_both))
        return *sums, _put(totals[2], position, of_rows, add=source is not None)

    # Gradients of parameters are summed over the images at the end, so that devices do not communicate in the loop.
    images = mask.shape[0]
    zeros = jax.tree.map(lambda leaf: jnp.zeros((images, *leaf.shape), leaf.dtype), params)
    start = (zeros, *jax.tree.map(jnp.zeros_like, (maps, rows)))
    of_params, of_maps, of_rows = jax.lax.fori_loop(0, chunks, add, start)
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), of_params), of_maps, of_rows, None, None, None


_in_chunks.defvjp(_forward, _backward)


def _order(mask: Bool[Array, "b n"], chunk: int) -> tuple[Int[Array, ""], Int[Array, "b slots"]]:
    """Return the number of chunks that the fullest image needs, and the indices of the marked rows of every image.

    The slots that are left over have indices beyond the rows.
    """
    n = mask.shape[1]
    slots = -(-n // chunk) * chunk
    count = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    chunks = -(-jnp.max(count[:, -1]) // chunk)

    def of_image(mask: Array, count: Array) -> Array:
        beyond = n + jnp.arange(slots, dtype=jnp.int32)
        slot = jnp.where(mask, count - 1, slots)
        return beyond.at[slot].set(jnp.arange(n, dtype=jnp.int32), mode="drop")

    return chunks, jax.vmap(of_image)(mask, count)


def _slots(order: Int[Array, "b slots"], i: Array, chunk: int) -> Int[Array, "b chunk"]:
    return jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk, axis=1)


def _through(source: Int[Array, "b n"] | None, index: Int[Array, "b chunk"]) -> Int[Array, "b chunk"]:
    """Return the sources of rows; those of slots that are left over lie beyond all rows."""
    return index if source is None else _take(source, index, fill=jnp.iinfo(source.dtype).max)


def _take(rows: Any, index: Int[Array, "b slots"], fill: int | None = None) -> Any:
    mode = "clip" if fill is None else "fill"
    take = jax.vmap(lambda leaf, index: jnp.take(leaf, index, axis=0, mode=mode, fill_value=fill))
    return jax.tree.map(lambda leaf: take(leaf, index), rows)


def _put(rows: Any, index: Int[Array, "b slots"], values: Any, *, add: bool = False) -> Any:
    def put(leaf: Array, index: Array, value: Array) -> Array:
        return leaf.at[index].add(value, mode="drop") if add else leaf.at[index].set(value, mode="drop")

    return jax.tree.map(lambda leaf, value: jax.vmap(put)(leaf, index, value), rows, values)
