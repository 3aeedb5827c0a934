"""Cells that learn: those of a level without repetition, and functions of the positives of all levels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ugs_jax.detectors import Localizer, gather, localize
from ugs_jax.training import compaction
from ugs_jax.training.compaction import at_marked
from ugs_jax.training.matching import Match, concatenate_levels

T = TypeVar("T")


class LearningCells(NamedTuple):
    """Cells of one level with a positive, each once, in r slots of every image.

    Attributes:
      cell: Flat index of the cell of every slot; 0 in a slot that is not used.
      slot: Slot of every candidate of a `Match`; 0 for candidates without a positive.
    """

    cell: Int[Array, "b r"]
    slot: Int[Array, "b m k"]


def learning_cells(match: Match) -> LearningCells:
    """Return the cells of a level that learn. There are as many slots as candidates, or as cells if those are fewer."""
    rows, columns = match.shape
    b, m, k, _ = match.positive.shape
    cells, slots = rows * columns, min(m * k, rows * columns)

    def of_image(cell: Array, learns: Array) -> tuple[Array, Array]:
        marked = jnp.zeros(cells, bool).at[jnp.where(learns, cell, cells)].set(True, mode="drop")
        count = jnp.cumsum(marked, dtype=jnp.int32)
        slot = jnp.where(learns, count[cell] - 1, 0)
        return jnp.zeros(slots, cell.dtype).at[jnp.where(learns, slot, slots)].set(cell, mode="drop"), slot

    learns = jnp.any(match.positive, axis=-1).reshape(b, -1)
    cell, slot = jax.vmap(of_image)(match.candidates.cell.reshape(b, -1), learns)
    return LearningCells(cell, slot.reshape(b, m, k))


def are_few(matches: Sequence[Match]) -> bool:
    """Return whether an image has so few candidates that computing all of them is as fast as the positives alone."""
    return sum(m.positive[0].size for m in matches) <= compaction.few()


def at_positives(
    matches: Sequence[Match],
    cells: Sequence[LearningCells],
    function: Callable[[Array, Any], T],
    rows: Sequence[Float[Array, "b _ ..."]],
    constants: Sequence[Any],
    *,
    values: Callable[[Any, Array], Array] = lambda _, rows: rows,
    params: Sequence[Any] | None = None,
) -> T:
    """Apply a function at the positives of all levels, and only there; the results elsewhere do not count.

    Every level has a loop of its own. A few candidates are computed whole, all levels together, which compiles faster.

    Args:
      matches: Matches of all levels.
      cells: Learning cells of all levels.
      function: Function from the values of n candidates, [n, …], and their constants to arrays [n, …].
      rows: Arrays of every level with one row for each slot, such as features, or the values themselves.
      constants: Pytree of every level with arrays of the candidates, [b, m, k, a, …], that carry no gradient.
      values: Function from the parameters of a level and n of its rows to values of every anchor, [n, a, …]. Row i of
        the values depends on row i alone. By default the rows are the values.
      params: Parameters of every level, pytrees; by default there are none.

    Returns:
      Results at the candidates of all levels, [b, m, k, Σ a, …].
    """
    merge = lambda leaf: leaf.reshape(len(leaf), -1, *leaf.shape[4:])  # noqa: E731
    params = [()] * len(matches) if params is None else params
    if are_few(matches):
        every = [jax.vmap(values, (None, 0))(*each) for each in zip(params, rows, strict=True)]
        own = concatenate_levels([at_candidates(*each) for each in zip(cells, every, strict=True)])
        found = jax.vmap(function)(*jax.tree.map(merge, (own, concatenate_levels(constants))))
        shape = concatenate_levels([m.positive for m in matches]).shape
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[2:]), found)

    def at_own_anchor(params: Any, _: Any, rows: Array, constants: tuple[Array, Any]) -> T:
        anchor, own = constants
        every = values(params, rows)
        return function(every[jnp.arange(len(every)), anchor], own)

    by_level = zip(matches, cells, params, rows, constants, strict=True)
    return concatenate_levels([at_positives_of_level(m, own, at_own_anchor, *rest) for m, own, *rest in by_level])


def at_positives_of_level(
    match: Match,
    cells: LearningCells,
    function: Callable[[Any, Any, Array, tuple[Array, Any]], T],
    params: Any,
    rows: Float[Array, "b _ ..."],
    constants: Any,
    maps: Any = None,
    *,
    whole: bool = False,
) -> T:
    """Apply a function at the positives of one level; the results elsewhere do not count.

    Args:
      match: Match of the level.
      cells: Learning cells of the level.
      function: Function from parameters, the maps of an image, n of its rows and the tuple of their anchor indices and
        constants to arrays [n, …]. Row i of the results depends on row i alone, on the parameters and on the maps.
      params: Parameters, a pytree.
      rows: Array with one row for each slot.
      constants: Pytree of arrays of the candidates, [b, m, k, a, …], that carry no gradient.
      maps: Pytree of arrays [b, …] that the function may read anywhere.
      whole: Compute all candidates instead of the positives alone, which compiles faster (`are_few`).

    Returns:
      Results at the candidates, [b, m, k, a, …].
    """
    merge = lambda leaf: leaf.reshape(len(leaf), -1, *leaf.shape[4:])  # noqa: E731
    shape = match.positive.shape
    anchor = jnp.broadcast_to(jnp.arange(shape[-1]), shape)
    own = jax.tree.map(merge, (anchor, constants))
    slot = merge(jnp.broadcast_to(cells.slot[..., None], shape))
    if whole:
        found = jax.vmap(function, (None, 0, 0, 0))(params, maps, gather(rows[:, None], slot), own)
    else:
        mask, chunk = merge(match.positive), compaction.candidates()
        found = at_marked(function, params, rows, own, mask, slot, maps=maps, chunk=chunk)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[2:]), found)


def at_localized(
    matches: Sequence[Match],
    cells: Sequence[LearningCells],
    function: Callable[[Array, Any], T],
    features: Sequence[Float[Array, "b _ _"]],
    *more: Sequence[Array],
    frozen: bool = False,
) -> T:
    """Localize the positives of all levels, and apply a function there; the results elsewhere do not count.

    Args:
      matches: Matches of all levels.
      cells: Learning cells of all levels.
      function: Function from the raw outputs of the first stage for n candidates, [n, outputs], and the tuple of their
        anchors, targets and `more` to arrays [n, …].
      features: Features in the slots of every level.
      more: Arrays of the candidates of every level, [b, m, k, a, …], that carry no gradient.
      frozen: Stop the gradient with respect to the localization layers.

    Returns:
      Results at the candidates of all levels, [b, m, k, Σ a, …].
    """
    layers = tuple(Localizer(m.localizer.kernel, m.localizer.bias) for m in matches)
    return at_positives(
        matches,
        cells,
        function,
        features,
        [(m.anchors, m.targets, *each) for m, *each in zip(matches, *more, strict=True)],
        values=localize,
        params=jax.lax.stop_gradient(layers) if frozen else layers,
    )


def gather_features(matches: Sequence[Match], cells: Sequence[LearningCells]) -> tuple[Float[Array, "b _ _"], ...]:
    """Return the features in the slots of every level."""
    return tuple(gather(m.level.features, own.cell) for m, own in zip(matches, cells, strict=True))


def at_candidates(cells: LearningCells, values: Float[Array, "b r a ..."]) -> Float[Array, "b m k a ..."]:
    """Return the values of the slots of one level at every candidate."""
    return gather(values[:, None], cells.slot)
