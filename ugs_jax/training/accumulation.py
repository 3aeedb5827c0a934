"""A batch in parts, one after the other: its gradient in the memory that one part takes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax.runs.state import Metrics
from ugs_jax.training.unknown import MAY_BE_UNKNOWN


def micro_batches(batch: Batch, parts: int) -> Batch:
    """Arrays [B, …] → [parts, B/parts, …], of which every part has rows of every device.

    Part k is rows k, k + parts, k + 2·parts …, so that a batch which lies in equal shares on several devices needs no
    communication.

    Args:
      batch: of a multiple of `parts` images.
      parts: how many.
    """
    return jax.tree.map(lambda a: jnp.moveaxis(a.reshape(a.shape[0] // parts, parts, *a.shape[1:]), 1, 0), batch)


def map_parts(one: Callable[[Batch, Array | None], Any], batch: Batch, parts: int) -> Any:
    """What `one` gives for every part of a batch, one after the other, along a new first axis.

    Args:
      one: a part and its number → a pytree of arrays; the whole batch has no number.
      batch: of a multiple of `parts` images.
      parts: how many.
    """
    if parts == 1:
        return jax.tree.map(lambda leaf: leaf[None], one(batch, None))
    return jax.lax.map(lambda part: one(*part), (micro_batches(batch, parts), jnp.arange(parts)))


def accumulate_gradient(
    gradient_of: Callable[[Any, Batch, Array | None], tuple[Any, Any, Metrics]],
    like: Any,
    stats: Any,
    batch: Batch,
    parts: int,
) -> tuple[Any, Any, Metrics]:
    """Mean of the gradients of all parts of a batch; batch statistics pass from one part to the next.

    Args:
      gradient_of: running statistics, a part and its number → gradient, statistics, metrics; the whole batch has no
        number.
      like: gives shapes and types of the gradient.
      stats: running statistics before.
      batch: of a multiple of `parts` images.
      parts: how many.

    Returns:
      Gradient, statistics, and means of the metrics over the parts, of `MAY_BE_UNKNOWN` over the parts that
      know them.
    """
    if parts == 1:
        return gradient_of(stats, batch, None)

    def one(carried: tuple[Any, Any], part: tuple[Batch, Array]) -> tuple[tuple[Any, Any], Metrics]:
        total, stats = carried
        gradient, stats, metrics = gradient_of(stats, *part)
        return (jax.tree.map(jnp.add, total, gradient), stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, like)
    (total, stats), rows = jax.lax.scan(one, (zeros, stats), (micro_batches(batch, parts), jnp.arange(parts)))
    metrics = {name: (jnp.nanmean if name in MAY_BE_UNKNOWN else jnp.mean)(values) for name, values in rows.items()}
    return jax.tree.map(lambda leaf: leaf / parts, total), stats, metrics


def mean_loss(
    loss_of: Callable[[Any, Batch, Array | None], Float[Array, ""]], params: Any, batch: Batch, parts: int
) -> Float[Array, ""]:
    """Mean of the losses of all parts of a batch, differentiable in the memory that one part takes.

    Args:
      loss_of: parameters, a part and its number → loss; the whole batch has no number.
      params: at which.
      batch: of a multiple of `parts` images.
      parts: how many.
    """
    if parts == 1:
        return loss_of(params, batch, None)
    return jnp.mean(map_parts(jax.checkpoint(lambda rows, part: loss_of(params, rows, part)), batch, parts))
