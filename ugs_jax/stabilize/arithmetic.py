"""Sums over trees of updates, in at least single precision. Leaves that a mask hides count as zero.

Updates may be complex. The change of a real loss along u is then Re(conj(g)·u), with g in optax's convention: the
conjugate of what `jax.grad` returns.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def dot(tree: Any, updates: Any) -> Array:
    """Return Σ Re(conj(tree) · updates) over all entries. `tree` may have leaves where `updates` are masked."""

    def product(update: Any, other: Any) -> Array:
        if is_masked(update):
            return jnp.zeros(())
        dtype = jnp.promote_types(jnp.result_type(update, other), jnp.float32)
        return jnp.sum(jnp.real(jnp.conj(jnp.asarray(other, dtype)) * jnp.asarray(update, dtype)))

    return sum(jax.tree.leaves(jax.tree.map(product, updates, tree, is_leaf=is_masked)), jnp.zeros(()))


def squared_norm(updates: Any) -> Array:
    """Return Σ |updates|²."""
    return dot(updates, updates)


def squares(updates: Any) -> Any:
    """Return |updates|² entry by entry, in at least single precision."""

    def square(update: Array) -> Array:
        wide = update.astype(jnp.promote_types(update.dtype, jnp.float32))
        return jnp.real(wide * jnp.conj(wide))

    return jax.tree.map(square, updates)


def scaled(updates: Any, scale: Array) -> Any:
    """Return the updates times a real scalar. Every leaf keeps its dtype."""
    return jax.tree.map(lambda update: update * scale.astype(update.real.dtype), updates)


def is_masked(node: Any) -> bool:
    """Return True for the placeholder that `optax.masked` puts in the place of a masked leaf."""
    return isinstance(node, optax.MaskedNode)
