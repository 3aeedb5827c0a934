"""Extra arguments in the layout of the updates. Wrappers such as `optax.flatten` change the layout of updates only."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from ugs_jax.stabilize.arithmetic import is_masked


def like_updates(name: str, tree: Any, updates: Any) -> Any:
    """Return a tree like the parameters, in the layout of the updates.

    Args:
      name: Name of the extra argument, for the message.
      tree: Tree with one array for each parameter.
      updates: Tree of the same structure, in which `optax.MaskedNode` may replace leaves; or one vector of all
        parameters, as `optax.flatten` passes it on.

    Returns:
      The tree, unchanged or as one vector.

    Raises:
      ValueError: The shapes differ from those of the updates.
    """
    if _flattened(tree, updates):
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    def check(path: Any, update: Any, other: Any) -> None:
        if not is_masked(update) and jnp.shape(other) != jnp.shape(update):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name}: expected the shapes of the updates, {jnp.shape(update)} at {where or 'the root'}, got "
                f"{jnp.shape(other)}; pass a tree like the parameters"
            )

    try:
        jax.tree_util.tree_map_with_path(check, updates, tree, is_leaf=is_masked)
    except (TypeError, ValueError) as error:
        if str(error).startswith(f"{name}:"):
            raise
        raise ValueError(
            f"{name}: expected a tree like the updates, {jax.tree.structure(updates)}, got {jax.tree.structure(tree)}"
        ) from error
    return tree


def of_updates(function: Callable[[Any], Array], tree: Any, updates: Any) -> Callable[[Any], Array]:
    """Return a function of the parameters that takes them in the layout of the updates.

    Args:
      function: Function of the parameters in the layout of `tree`.
      tree: Tree in the layout of the parameters, for example the gradient.
      updates: Updates; see `like_updates`.
    """
    if not _flattened(tree, updates):
        return function
    _, unravel = ravel_pytree(tree)
    return lambda vector: function(unravel(vector))


def _flattened(tree: Any, updates: Any) -> bool:
    """Return True if the updates are one vector of all entries of the tree."""
    if not jax.tree_util.all_leaves([updates]) or jax.tree_util.all_leaves([tree]):
        return False
    return jnp.shape(updates) == (sum(np.size(leaf) for leaf in jax.tree.leaves(tree)),)
