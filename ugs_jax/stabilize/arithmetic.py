"""Sums over trees of updates, in at least single precision; members that a mask left out count nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def dot(tree: Any, updates: Any) -> Array:
    """Σ tree · updates over all entries; `tree` may have leaves where `updates` are masked."""

    def product(update: Any, other: Any) -> Array:
        if isinstance(update, optax.MaskedNode):
            return jnp.zeros(())
        dtype = jnp.promote_types(jnp.result_type(update, other), jnp.float32)
        return jnp.sum(jnp.asarray(update, dtype) * jnp.asarray(other, dtype))

    return sum(jax.tree.leaves(jax.tree.map(product, updates, tree, is_leaf=_is_masked)), jnp.zeros(()))


def squared_norm(updates: Any) -> Array:
    """Σ updates²."""
    return dot(updates, updates)


def scaled(updates: Any, scale: Array) -> Any:
    """Updates times a scalar, every leaf in its own dtype."""
    return jax.tree.map(lambda update: update * scale.astype(update.dtype), updates)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
