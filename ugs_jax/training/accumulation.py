"""A batch in parts, one after the other: its gradient in the memory that one part takes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax.training.sharpness import SHARPNESS

Metrics = dict[str, Array]


def micro_batches(batch: Batch, parts: int) -> Batch:
    """Arrays [B, …] → [parts, B/parts, …], of which every part has rows of every device.

    Part k is rows k, k + parts, k + 2·parts …, so that a batch which lies in equal shares on several devices needs no
    communication.

    Args:
      batch: of a multiple of `parts` images.
      parts: how many.
    """
    return jax.tree.map(lambda a: jnp.moveaxis(a.reshape(a.shape[0] // parts, parts, *a.shape[1:]), 1, 0), batch)


def accumulate_gradient(
    gradient_of: Callable[[Any, Batch, Array], tuple[Any, Any, Metrics]],
    like: Any,
    stats: Any,
    batch: Batch,
    parts: int,
) -> tuple[Any, Any, Metrics]:
    """Mean of the gradients of all parts of a batch; batch statistics pass from one part to the next.

    Args:
      gradient_of: running statistics, a part and its number → gradient, statistics, metrics.
      like: gives shapes and types of the gradient.
      stats: running statistics before.
      batch: of a multiple of `parts` images.
      parts: how many.

    Returns:
      Gradient, statistics, and means of the metrics over the parts; of measurements by size, over those that have any.
    """

    def one(carried: tuple[Any, Any], part: tuple[Array, Batch]) -> tuple[tuple[Any, Any], Metrics]:
        total, stats = carried
        number, rows = part
        gradient, stats, metrics = gradient_of(stats, rows, number)
        return (jax.tree.map(jnp.add, total, gradient), stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, like)
    (total, stats), rows = jax.lax.scan(one, (zeros, stats), (jnp.arange(parts), micro_batches(batch, parts)))
    metrics = {name: (jnp.nanmean if name in SHARPNESS else jnp.mean)(values) for name, values in rows.items()}
    return jax.tree.map(lambda leaf: leaf / parts, total), stats, metrics


def mean_loss(
    loss_of: Callable[[Any, Batch, Array], Float[Array, ""]], params: Any, batch: Batch, parts: int
) -> Float[Array, ""]:
    """Mean of the losses of all parts of a batch, differentiable in the memory that one part takes.

    Args:
      loss_of: parameters, a part and its number → loss.
      params: at which.
      batch: of a multiple of `parts` images.
      parts: how many.
    """
    one = jax.checkpoint(lambda part: loss_of(params, part[1], part[0]))
    return jnp.mean(jax.lax.map(one, (jnp.arange(parts), micro_batches(batch, parts))))
