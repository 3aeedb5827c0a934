"""Cells that learn: those of a level without repetition, and functions of the positives of all levels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ugs_jax.detectors import Localizer, gather, localize
from ugs_jax.training import compaction
from ugs_jax.training.compaction import at_marked
from ugs_jax.training.matching import Match, concatenate_levels

T = TypeVar("T")


class LearningCells(NamedTuple):
    """Cells of one level with a positive, each once, in r slots of every image; the first ones are used.

    Attributes:
      cell: Flat index of the cell of every slot; 0 in a slot that is not used.
      used: Mask of the slots that hold a cell.
      slot: Slot of every candidate of a `Match`; 0 for candidates without a positive.
    """

    cell: Int[Array, "b r"]
    used: Bool[Array, "b r"]
    slot: Int[Array, "b m k"]


def learning_cells(match: Match) -> LearningCells:
    """Return the cells of a level that learn. There are as many slots as candidates, or as cells if those are fewer."""
    rows, columns = match.shape
    b, m, k, _ = match.positive.shape
    cells, slots = rows * columns, min(m * k, rows * columns)

    def of_image(cell: Array, learns: Array) -> tuple[Array, Array, Array]:
        marked = jnp.zeros(cells, bool).at[jnp.where(learns, cell, cells)].set(True, mode="drop")
        count = jnp.cumsum(marked, dtype=jnp.int32)
        slot = jnp.where(learns, count[cell] - 1, 0)
        found = jnp.zeros(slots, cell.dtype).at[jnp.where(learns, slot, slots)].set(cell, mode="drop")
        return found, jnp.arange(slots) < count[-1], slot

    learns = jnp.any(match.positive, axis=-1).reshape(b, -1)
    cell, used, slot = jax.vmap(of_image)(match.candidates.cell.reshape(b, -1), learns)
    return LearningCells(cell, used, slot.reshape(b, m, k))


def every_candidate(match: Match) -> LearningCells:
    """Return a slot for every candidate cell of a level, so that a cell of several candidates has as many."""
    b, m, k, _ = match.positive.shape
    used = jnp.any(match.positive, axis=-1).reshape(b, -1)
    slot = jnp.broadcast_to(jnp.arange(m * k).reshape(m, k), (b, m, k))
    return LearningCells(match.candidates.cell.reshape(b, -1), used, slot)


def localize_cells(
    localizer: Localizer, cells: LearningCells, features: Float[Array, "b r c"]
) -> Float[Array, "b r a outputs"]:
    """Return the raw outputs of every anchor at the features of the cells; any numbers in slots that are not used."""
    layer = Localizer(localizer.kernel, localizer.bias)
    return at_marked(
        lambda layer, rows, _: localize(layer, rows), layer, features, (), cells.used, chunk=compaction.cells()
    )


def at_positives(
    matches: Sequence[Match],
    cells: Sequence[LearningCells],
    function: Callable[[Array, Any], T],
    rows: Sequence[Float[Array, "b _ _ ..."]],
    constants: Any,
) -> T:
    """Apply a function at the positives of all levels, and only there; the results elsewhere do not count.

    Args:
      matches: Matches of all levels.
      cells: Learning cells of all levels.
      function: Function from n rows and their constants to arrays [n, …]. Row i of the results depends on row i alone.
      rows: Arrays of every level with one row for every slot and anchor, such as raw outputs.
      constants: Pytree of arrays of the candidates of all levels, [b, m, k, Σ a, …], that carry no gradient.

    Returns:
      Results at the candidates of all levels, [b, m, k, Σ a, …].
    """
    positive = concatenate_levels([m.positive for m in matches])
    flat = [values.reshape(len(values), -1, *values.shape[3:]) for values in rows]
    merge = lambda leaf: leaf.reshape(len(leaf), -1, *leaf.shape[4:])  # noqa: E731
    found = at_marked(
        lambda _, *each: function(*each),
        (),
        jnp.concatenate(flat, axis=1),
        jax.tree.map(merge, constants),
        merge(positive),
        merge(_sources(cells, rows)),
        chunk=compaction.candidates(),
    )
    return jax.tree.map(lambda leaf: leaf.reshape(*positive.shape, *leaf.shape[2:]), found)


def at_candidates(cells: LearningCells, values: Float[Array, "b r a ..."]) -> Float[Array, "b m k a ..."]:
    """Return the values of the slots of one level at every candidate."""
    return gather(values[:, None], cells.slot)


def _sources(cells: Sequence[LearningCells], rows: Sequence[Array]) -> Int[Array, "b m k anchors"]:
    """Return the index of every candidate's row, where the rows of all slots, anchors and levels are concatenated."""
    sources, first = [], 0
    for own, values in zip(cells, rows, strict=True):
        _, r, a = values.shape[:3]
        sources.append(first + own.slot[..., None] * a + jnp.arange(a, dtype=own.slot.dtype))
        first += r * a
    return concatenate_levels(sources)
