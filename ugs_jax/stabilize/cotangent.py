"""A loss with unchanged values, in which the gradient of every box is multiplied by a factor."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def with_scaled_gradient(loss_fn: Callable[..., Array], boxes: Array, args: tuple[Any, ...], scale: Array) -> Array:
    """Return `loss_fn(boxes, *args)`, bit-identical, with the gradient of every box multiplied by the constant `scale`.

    A box with the factor 0 has the gradient 0, even if the gradient of the loss is infinite or NaN.

    Args:
      loss_fn: Function `loss_fn(boxes, *args)` that returns one value for each box, [..., d] → [...].
      boxes: Boxes, an array [..., d].
      args: Further arguments of `loss_fn`.
      scale: Factor of every box, [...].
    """
    scale = jax.lax.stop_gradient(scale)
    # 0 · NaN is NaN, so the gradient with respect to the boxes is also cut off before the loss.
    boxes = jnp.where((scale == 0)[..., None], jax.lax.stop_gradient(boxes), boxes)
    value = loss_fn(boxes, *args)
    return _scale_tangent(value, scale.astype(value.dtype))


@jax.custom_jvp
def _scale_tangent(value: Array, scale: Array) -> Array:
    del scale
    return value


@_scale_tangent.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    value, scale = primals
    return value, scale * tangents[0]
