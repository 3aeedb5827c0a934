"""Gradient accumulation: process a batch in parts, in sequence, with the memory of a single part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax.runs.state import Metrics
from ugs_jax.training.unknown import MAY_BE_UNKNOWN


def micro_batches(batch: Batch, parts: int) -> Batch:
    """Reshape arrays [B, …] to [parts, B/parts, …], so that every part has rows of every device.

    Part k consists of rows k, k + parts, k + 2·parts …, so that a batch that is split evenly over several devices needs
    no communication.

    Args:
      batch: Batch whose number of images is a multiple of `parts`.
      parts: Number of parts.
    """
    return jax.tree.map(lambda a: jnp.moveaxis(a.reshape(a.shape[0] // parts, parts, *a.shape[1:]), 1, 0), batch)


def map_parts(function: Callable[[Batch, Array | None], Any], batch: Batch, parts: int) -> Any:
    """Apply a function to every part of a batch, in sequence; return the results along a new first axis.

    Args:
      function: Function from a part and its number to a pytree of arrays. If there is only one part, it gets the whole
        batch and None.
      batch: Batch whose number of images is a multiple of `parts`.
      parts: Number of parts.
    """
    if parts == 1:
        return jax.tree.map(lambda leaf: leaf[None], function(batch, None))
    return jax.lax.map(lambda part: function(*part), (micro_batches(batch, parts), jnp.arange(parts)))


def accumulate_gradient(
    gradient_of: Callable[[Any, Batch, Array | None], tuple[Any, Any, Metrics]],
    like: Any,
    stats: Any,
    batch: Batch,
    parts: int,
) -> tuple[Any, Any, Metrics]:
    """Return the mean gradient of all parts of a batch; batch statistics pass from one part to the next.

    Args:
      gradient_of: Function from running statistics, a part and its number to gradient, statistics and metrics. If there
        is only one part, it gets the whole batch and None.
      like: Pytree with the shapes and types of the gradient.
      stats: Running statistics before the batch.
      batch: Batch whose number of images is a multiple of `parts`.
      parts: Number of parts.

    Returns:
      Gradient, statistics, and metrics. Metrics are means over the parts; those in `MAY_BE_UNKNOWN` are means over the
      parts where they are known.
    """
    if parts == 1:
        return gradient_of(stats, batch, None)

    def add_part(carried: tuple[Any, Any], part: tuple[Batch, Array]) -> tuple[tuple[Any, Any], Metrics]:
        total, stats = carried
        gradient, stats, metrics = gradient_of(stats, *part)
        return (jax.tree.map(jnp.add, total, gradient), stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, like)
    (total, stats), rows = jax.lax.scan(add_part, (zeros, stats), (micro_batches(batch, parts), jnp.arange(parts)))
    metrics = {name: (jnp.nanmean if name in MAY_BE_UNKNOWN else jnp.mean)(values) for name, values in rows.items()}
    return jax.tree.map(lambda leaf: leaf / parts, total), stats, metrics


def mean_loss(
    loss_of: Callable[[Any, Batch, Array | None], Float[Array, ""]], params: Any, batch: Batch, parts: int
) -> Float[Array, ""]:
    """Return the mean loss of all parts of a batch, differentiable with the memory of a single part.

    Args:
      loss_of: Function from parameters, a part and its number to the loss. If there is only one part, it gets the whole
        batch and None.
      params: Parameters of the loss.
      batch: Batch whose number of images is a multiple of `parts`.
      parts: Number of parts.
    """
    if parts == 1:
        return loss_of(params, batch, None)
    return jnp.mean(map_parts(jax.checkpoint(lambda rows, part: loss_of(params, rows, part)), batch, parts))
