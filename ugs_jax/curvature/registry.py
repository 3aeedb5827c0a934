"""Hessian of each box: a closed form where one is registered for the loss, automatic differentiation elsewhere."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ugs_jax.curvature.autodiff import BoxLoss, as_boxes, check_values, hessian_by_autodiff
from ugs_jax.curvature.equations import Equation
from ugs_jax.curvature.verify import verify

HESSIANS: dict[BoxLoss, Callable[..., Array]] = {}
"""Closed forms by loss. `ugs_jax.losses` enters its own, and `register_hessian` yours."""


def hessian(loss: BoxLoss, boxes: Any, *args: Any) -> Array:
    """Return the Hessian of every box's loss with respect to the coordinates of that box.

    A closed form is used where one is registered for the loss: for those of `ugs_jax.losses` that have one value for
    each box, for yours after `register_hessian`, and for either with keywords set by `functools.partial`. It equals
    automatic differentiation and is several times faster (`experiments/results/hessian.md`). Other losses, lambdas
    among them, are differentiated automatically (`hessian_by_autodiff`). Compile calls with `jax.jit`.

    Args:
      loss: Function `loss(boxes, *args)` that returns one value for each box, [..., d] → [...]. The value of a box
        depends on no other box. Losses of logits may take logits [..., bins] as boxes.
      boxes: Boxes, an array [..., d] or nested lists of numbers.
      *args: Further arguments of `loss`, for example targets. They need not have the batch axes of `boxes` but must
        broadcast to them.

    Returns:
      Hessians [..., d, d]. The unit is 1/px² for coordinates in px and a loss without unit.

    Raises:
      TypeError: `boxes` is a pytree of arrays.
      ValueError: `loss` does not return one value for each box.

    Example:
      >>> import jax.numpy as jnp
      >>> print(hessian(lambda b, t: ((b - t) ** 2).sum(-1), jnp.zeros((1, 2)), jnp.ones((1, 2))))
      [[[2. 0.]
        [0. 2.]]]
    """
    form = closed_form(loss)
    if form is None:
        return hessian_by_autodiff(loss, boxes, *args)
    boxes = as_boxes(boxes)
    check_values(jax.eval_shape(lambda b: loss(b, *args), boxes).shape, boxes.shape)
    matrices = jnp.broadcast_to(form(boxes, *args), (*boxes.shape, boxes.shape[-1]))
    return matrices.astype(boxes.dtype) if jnp.issubdtype(boxes.dtype, jnp.floating) else matrices


def eigenvalues(loss: BoxLoss, boxes: Any, *args: Any) -> Array:
    """Return the eigenvalues of `hessian`, ascending, [..., d].

    Hessians are symmetrised first, because they need not be symmetric at ties on kinks.

    Args:
      loss: Loss, called as `loss(boxes, *args)`, with one value for each box.
      boxes: Boxes, or other parameters, with respect to which the loss is differentiated.
      *args: Further arguments of the loss.
    """
    matrices = hessian(loss, boxes, *args)
    return jnp.linalg.eigvalsh((matrices + jnp.swapaxes(matrices, -1, -2)) / 2)


def closed_form(loss: BoxLoss) -> Callable[..., Array] | None:
    """Return the closed form that is registered for a loss; None if there is no such form."""
    try:
        form = HESSIANS.get(loss)
    except TypeError:  # a loss without a hash
        return None
    if form is None and isinstance(loss, functools.partial) and not loss.args:
        inner = closed_form(loss.func)
        return None if inner is None else functools.partial(inner, **loss.keywords)
    return form


def register_hessian(loss: BoxLoss, form: Callable[..., Array], *samples: Any) -> None:
    """Make `hessian` use a closed form for a loss, after comparing it with automatic differentiation.

    The form is compared at the samples in float64, as `verify` does: up to a relative error of 1e-8. The registration
    holds for this process. A later one for the same loss replaces it.

    Args:
      loss: Function `loss(boxes, *args)` with one value for each box. `hessian` finds it by identity, or by equality
        where it has one.
      form: Function of the same arguments that returns the Hessians, [..., d] → [..., d, d]. It must work on batches,
        and where the loss takes keywords, accept the same.
      *samples: Boxes [count, d] and the further arguments of the loss, [count, …]: points that cover every piece of the
        loss but lie on no kink.

    Raises:
      ValueError: The form differs from automatic differentiation at a sample, a sample lies on a kink, or there are no
        samples. The message says where.

    Example:
      >>> import jax.numpy as jnp
      >>> def quartic(boxes):
      ...     return jnp.sum(boxes**4, axis=-1)
      >>> def its_hessian(boxes):
      ...     return 12 * boxes[..., :, None] ** 2 * jnp.eye(boxes.shape[-1])
      >>> register_hessian(quartic, its_hessian, jnp.array([[1.0, 2.0], [-3.0, 0.5]]))
      >>> print(hessian(quartic, jnp.array([1.0, 2.0])))
      [[12.  0.]
       [ 0. 48.]]
    """
    check_hessian(loss, form, *samples)
    HESSIANS[loss] = form


def check_hessian(loss: BoxLoss, form: Callable[..., Array], *samples: Any) -> None:
    """Raise ValueError if a closed form differs from automatic differentiation, as `register_hessian` does.

    Args:
      loss: Function `loss(boxes, *args)` with one value for each box.
      form: Function of the same arguments that returns the Hessians.
      *samples: Boxes [count, d] and the further arguments of the loss, [count, …].
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    drawn = [np.asarray(values) for values in samples]
    if not drawn or len({values.shape[:1] for values in drawn}) != 1 or not drawn[0].size or drawn[0].ndim != 2:
        raise ValueError(
            f"{name}: expected samples as boxes [count, d] and further arguments [count, …], got shapes "
            f"{[values.shape for values in drawn]}"
        )
    names = [*inspect.signature(loss).parameters][: len(drawn)]

    def of_names(function: Callable[..., Array]) -> Callable[..., Array]:
        return lambda **variables: function(*(variables[n] for n in names))

    variables = dict(zip(names, drawn, strict=True))
    equation = Equation(
        number=name,
        title=name,
        loss=of_names(loss),
        exact=of_names(form),
        domain=lambda *_: variables,
        variable=names[0],
    )
    (verdict,) = verify([equation])
    if not verdict.exact_holds:
        raise ValueError(
            f"{name}: expected the Hessian that autodiff computes, got a form with a relative error of "
            f"{verdict.exact_error:.3g} at {verdict.worst}: {verdict.diagnosis}"
        )
