"""Calculus for closed forms: what is differentiated by the four coordinates x1, y1, x2, y2 of a box, entry by entry.

Two ideas carry most of it. Areas are products of two sides, and squared lengths sums of their squares; each side is
linear in the two coordinates along it, so one slope a coordinate says everything (`product`, `sum_of_squares`). And a
Hessian is a function from (i, j) to one entry for all boxes: only `matrix` puts the ten different entries together.

That order is what makes the closed forms fast: nothing of shape [..., 4, 4] exists before the result. Columns keep an
axis of one ([..., 1]), for a reshape would end a loop that XLA can otherwise fuse.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Column = Array
"""One number a box, [..., 1]."""

Four = Sequence[Column | float]
"""Something for each of x1, y1, x2, y2."""

Entries = Callable[[int, int], Column | float]
"""Entry (i, j) of a symmetric matrix, asked for i ≤ j."""

OUTWARD: Four = (-1.0, -1.0, 1.0, 1.0)
"""Slopes of a box's own sides: x2 lengthens the width, x1 shortens it; likewise the height."""


class Derivatives(NamedTuple):
    """Value, gradient and Hessian by the coordinates of the predicted box."""

    value: Column
    gradient: Four
    hessian: Entries


def columns(boxes: Array) -> tuple[Column, Column, Column, Column]:
    """The coordinates of boxes [..., 4], each [..., 1]."""
    return boxes[..., 0:1], boxes[..., 1:2], boxes[..., 2:3], boxes[..., 3:4]


def matrix(entries: Entries) -> Array:
    """The symmetric matrices [..., 4, 4] of `entries`.

    Eight entries are selected at a time: with all sixteen in one loop, XLA's CPU compiler no longer works on several
    boxes at once, and stacking them makes it compute what they share again for each.
    """

    def half(row: int) -> Array:
        chosen = [entries(min(i, j), max(i, j)) for i in (row, row + 1) for j in range(4)]
        wide = (*jnp.broadcast_shapes(*(jnp.shape(entry) for entry in chosen))[:-1], len(chosen))
        lane = jax.lax.broadcasted_iota(jnp.int32, wide, len(wide) - 1)
        selected = jnp.broadcast_to(chosen[-1], wide)
        for k, entry in enumerate(chosen[:-1]):
            selected = jnp.where(lane == k, entry, selected)
        return selected

    flat = jnp.concatenate([half(0), half(2)], axis=-1)
    return flat.reshape(*flat.shape[:-1], 4, 4)


def product(sides: tuple[Column, Column], slopes: Four) -> Derivatives:
    """Derivatives of width · height, the width moved by x1 and x2, the height by y1 and y2."""
    width, height = sides
    x1, y1, x2, y2 = slopes
    gradient = (x1 * height, y1 * width, x2 * height, y2 * width)
    return Derivatives(width * height, gradient, lambda i, j: 0.0 if _same_axis(i, j) else slopes[i] * slopes[j])


def sum_of_squares(sides: tuple[Column, Column], slopes: Four) -> Derivatives:
    """Derivatives of width² + height²."""
    width, height = sides
    x1, y1, x2, y2 = slopes
    gradient = (2 * x1 * width, 2 * y1 * height, 2 * x2 * width, 2 * y2 * height)
    value = width**2 + height**2
    return Derivatives(value, gradient, lambda i, j: 2 * slopes[i] * slopes[j] if _same_axis(i, j) else 0.0)


def quotient(a: Derivatives, b: Derivatives) -> Derivatives:
    """Derivatives of a/b."""
    inverse = 1 / b.value
    value = a.value * inverse
    gradient = tuple((x - value * y) * inverse for x, y in zip(a.gradient, b.gradient, strict=True))

    def hessian(i: int, j: int) -> Column:
        mixed = gradient[i] * b.gradient[j] + b.gradient[i] * gradient[j]
        return (a.hessian(i, j) - value * b.hessian(i, j) - mixed) * inverse

    return Derivatives(value, gradient, hessian)


def log(a: Derivatives) -> Derivatives:
    """Derivatives of log a."""
    inverse = 1 / a.value
    gradient = tuple(x * inverse for x in a.gradient)
    return Derivatives(jnp.log(a.value), gradient, lambda i, j: a.hessian(i, j) * inverse - gradient[i] * gradient[j])


def square(a: Derivatives) -> Derivatives:
    """Derivatives of a²."""
    gradient = tuple(2 * a.value * x for x in a.gradient)
    return Derivatives(
        a.value**2, gradient, lambda i, j: 2 * (a.gradient[i] * a.gradient[j] + a.value * a.hessian(i, j))
    )


def _same_axis(i: int, j: int) -> bool:
    return (i - j) % 2 == 0
