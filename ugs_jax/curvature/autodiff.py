"""Exact curvature by automatic differentiation: the Hessian of each box, and products with the Hessian of a model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

BoxLoss = Callable[..., Array]


def hessian_by_autodiff(loss: BoxLoss, boxes: Any, *args: Any) -> Array:
    """Return the Hessian of every box's loss with respect to the coordinates of that box.

    The cost is one forward pass over the gradient for each coordinate. The result equals `jax.vmap(jax.hessian(loss))`,
    and is about as fast once compiled. `curvature.hessian` takes a closed form instead where it knows one.

    Args:
      loss: Function `loss(boxes, *args)` that returns one value for each box, [..., d] → [...].
      boxes: Boxes, an array [..., d] or nested lists of numbers.
      *args: Further arguments of `loss`, for example targets, that broadcast to the boxes.

    Returns:
      Hessians [..., d, d].

    Raises:
      TypeError: `boxes` is a pytree of arrays.
      ValueError: `loss` does not return one value for each box.
    """
    boxes = as_boxes(boxes)

    def summed(b: Array) -> Array:
        values = loss(b, *args)
        check_values(values.shape, b.shape)
        return jnp.sum(values)

    gradient = jax.grad(summed)
    basis = jnp.eye(boxes.shape[-1], dtype=boxes.dtype)
    columns = [jax.jvp(gradient, (boxes,), (jnp.broadcast_to(e, boxes.shape),))[1] for e in basis]
    return jnp.stack(columns, axis=-1)


def as_boxes(boxes: Any) -> Array:
    """Return boxes as one array.

    Raises:
      TypeError: `boxes` is a pytree of arrays.
    """
    if not jax.tree_util.all_leaves([boxes]) and any(map(np.ndim, jax.tree.leaves(boxes))):
        raise TypeError(
            f"hessian: expected boxes as one array [..., d], got a pytree, {jax.tree.structure(boxes)}; for the "
            "Hessian by all parameters take flat, unravel = jax.flatten_util.ravel_pytree(params), then "
            "hessian(lambda flat: loss(unravel(flat)), flat); or hvp for products with it"
        )
    return jnp.asarray(boxes)


def check_values(values: tuple[int, ...], boxes: tuple[int, ...]) -> None:
    """Raise ValueError unless values of the first shape are one for each box of boxes of the second."""
    if values != boxes[:-1]:
        raise ValueError(
            f"expected a loss with one value per box, {boxes[:-1]} for boxes of shape {boxes}, got {values}"
        )


def in_double(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` in float64. The precision of the session stays unchanged.

    Args:
      function: Function of arrays, for example `functools.partial(hessian, losses.giou)`. The call must not be inside a
        JAX transformation.
      *args: Pytrees of arguments. Floating-point leaves are cast to float64.

    Returns:
      The result, with NumPy arrays as leaves: outside of this function JAX arrays would fall back to float32.

    Example:
      >>> import jax.numpy as jnp
      >>> print(in_double(lambda x: jax.hessian(jnp.sin)(x), 0.5).dtype)
      float64
    """
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, function(*jax.tree.map(_widest, args)))


def hvp(loss: Callable[..., Array], params: Any, direction: Any, *args: Any) -> Any:
    """Return the product of the Hessian of a scalar loss with a direction.

    It is computed forward over reverse, at about the cost of two gradients.

    Args:
      loss: Function `loss(params, *args)` that returns a scalar.
      params: Pytree of parameters.
      direction: Pytree of the same structure.
      *args: Further arguments of `loss`.

    Returns:
      A pytree of the structure of `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(hvp(lambda x: (x**3).sum(), jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])))
      [6. 0.]
    """
    return jax.jvp(lambda p: jax.grad(loss)(p, *args), (params,), (direction,))[1]


def gauss_newton_product(model: Callable[[Any], Any], loss: Callable[[Any], Array], params: Any, direction: Any) -> Any:
    """Return the product of the Gauss-Newton matrix JᵀHJ with a direction.

    The matrix is positive semi-definite where `loss` is convex.

    Args:
      model: Function `model(params)` that returns outputs; J is its Jacobian.
      loss: Function `loss(outputs)` that returns a scalar; H is its Hessian.
      params: Pytree of parameters.
      direction: Pytree of the same structure.

    Returns:
      A pytree of the structure of `params`.

    References:
      Schraudolph, Neural Computation 2002.

    Example:
      >>> import jax.numpy as jnp
      >>> print(gauss_newton_product(lambda p: p**2, lambda y: (y**2).sum(), jnp.array([3.0]), jnp.array([1.0])))
      [72.]
    """
    outputs, moved = jax.jvp(model, (params,), (direction,))
    _, back = jax.vjp(model, params)
    (product,) = back(hvp(loss, outputs, moved))
    return product


def _widest(leaf: Any) -> Any:
    array = np.asarray(leaf)
    return jnp.asarray(array, jnp.float64) if np.issubdtype(array.dtype, np.floating) else jnp.asarray(array)
