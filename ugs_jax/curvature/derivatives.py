"""Calculus for closed forms: derivatives by the four coordinates x1, y1, x2, y2 of a box, entry by entry.

Most of it rests on two ideas. First, areas are products of two sides, and squared lengths are sums of their squares.
Each side is linear in the two coordinates along it, so one slope for each coordinate is enough (`product`,
`sum_of_squares`). Second, a Hessian is a function from (i, j) to one entry for all boxes. Only `matrix` joins the ten
different entries.

The second idea makes the closed forms fast: no array of shape [..., 4, 4] exists before the result. Columns keep an
axis of length one ([..., 1]), because a reshape would end a loop that XLA can otherwise fuse.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Column = Array
"""One number for each box, [..., 1]."""

Four = Sequence[Column | float]
"""One value for each of x1, y1, x2, y2."""

Entries = Callable[[int, int], Column | float]
"""Function that returns the entry (i, j) of a symmetric matrix, called for i ≤ j."""

FLOOR = 1e-12
"""Smallest area or squared length, px², that is used as a divisor."""

OUTWARD: Four = (-1.0, -1.0, 1.0, 1.0)
"""Slopes of the sides of a box: x2 lengthens the width and x1 shortens it; the same holds for the height."""


class Derivatives(NamedTuple):
    """Value, gradient and Hessian by the coordinates of the predicted box."""

    value: Column
    gradient: Four
    hessian: Entries


def below(a: Column | float, b: Column | float) -> Column:
    """Return 1 where a < b, ½ where they are equal, else 0: the slope of min(a, b) by a, and of max(a, b) by b."""
    return jnp.where(a < b, 1.0, jnp.where(a == b, 0.5, 0.0))


def columns(boxes: Array) -> tuple[Column, Column, Column, Column]:
    """Return the four coordinates of boxes [..., 4], each [..., 1]."""
    return boxes[..., 0:1], boxes[..., 1:2], boxes[..., 2:3], boxes[..., 3:4]


def matrix(entries: Entries) -> Array:
    """Return the symmetric matrices [..., 4, 4] of `entries`.

    Eight entries are selected at a time. With all sixteen in one loop, XLA's CPU compiler no longer vectorises over
    boxes. With stacked entries, it computes their common terms again for each entry.
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
    """Return the derivatives of width · height. x1 and x2 change the width, y1 and y2 the height."""
    width, height = sides
    x1, y1, x2, y2 = slopes
    gradient = (x1 * height, y1 * width, x2 * height, y2 * width)
    return Derivatives(width * height, gradient, lambda i, j: 0.0 if _same_axis(i, j) else slopes[i] * slopes[j])


def sum_of_squares(sides: tuple[Column, Column], slopes: Four) -> Derivatives:
    """Return the derivatives of width² + height²."""
    width, height = sides
    x1, y1, x2, y2 = slopes
    gradient = (2 * x1 * width, 2 * y1 * height, 2 * x2 * width, 2 * y2 * height)
    value = width**2 + height**2
    return Derivatives(value, gradient, lambda i, j: 2 * slopes[i] * slopes[j] if _same_axis(i, j) else 0.0)


def quotient(a: Derivatives, b: Derivatives) -> Derivatives:
    """Return the derivatives of a/b; they are 0 where b is not above `FLOOR`."""
    inverse = _inverse(b.value)
    value = a.value * inverse
    gradient = tuple((x - value * y) * inverse for x, y in zip(a.gradient, b.gradient, strict=True))

    def hessian(i: int, j: int) -> Column:
        mixed = gradient[i] * b.gradient[j] + b.gradient[i] * gradient[j]
        return (a.hessian(i, j) - value * b.hessian(i, j) - mixed) * inverse

    return Derivatives(value, gradient, hessian)


def log(a: Derivatives) -> Derivatives:
    """Return the derivatives of log a; the gradient and the Hessian are 0 where a is not above 0."""
    inverse = _inverse(a.value, 0)
    gradient = tuple(x * inverse for x in a.gradient)
    return Derivatives(jnp.log(a.value), gradient, lambda i, j: a.hessian(i, j) * inverse - gradient[i] * gradient[j])


def square(a: Derivatives) -> Derivatives:
    """Return the derivatives of a²."""
    gradient = tuple(2 * a.value * x for x in a.gradient)
    return Derivatives(
        a.value**2, gradient, lambda i, j: 2 * (a.gradient[i] * a.gradient[j] + a.value * a.hessian(i, j))
    )


def _same_axis(i: int, j: int) -> bool:
    return (i - j) % 2 == 0


def _inverse(value: Column, floor: float = FLOOR) -> Column:
    """Return 1/value, or 0 where the value is not above `floor`."""
    regular = value > floor
    return jnp.where(regular, 1 / jnp.where(regular, value, 1), 0)
