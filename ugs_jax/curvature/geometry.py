"""Areas, distances and angles of pairs of boxes, with their derivatives by the coordinates of the predicted box.

All functions take predicted boxes and targets, xyxy px. They are piecewise; where two pieces meet, slopes are means.
"""

import jax.numpy as jnp
from jax import Array

from ugs_jax.curvature.derivatives import (
    OUTWARD,
    Column,
    Derivatives,
    Four,
    below,
    columns,
    product,
    quotient,
    sum_of_squares,
)

SIDE_FLOOR = 1e-3
"""Smallest side, px, in angles; shorter sides are replaced by it."""


def _rectangle(width: Column, height: Column, slopes: Four) -> Derivatives:
    """Return derivatives of the area of a rectangle, which is 0 where a side is negative."""
    wide, high = below(0, width), below(0, height)
    x1, y1, x2, y2 = slopes
    return product((jnp.maximum(width, 0), jnp.maximum(height, 0)), (x1 * wide, y1 * high, x2 * wide, y2 * high))


def intersection(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the area of overlap. An edge changes the area where it lies inside the target."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = columns(boxes), columns(targets)
    width, height = jnp.minimum(x2, u2) - jnp.maximum(x1, u1), jnp.minimum(y2, v2) - jnp.maximum(y1, v1)
    return _rectangle(width, height, (-below(u1, x1), -below(v1, y1), below(x2, u2), below(y2, v2)))


def union(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the area that both cover together."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = columns(boxes), columns(targets)
    own, inter = _rectangle(x2 - x1, y2 - y1, OUTWARD), intersection(boxes, targets)
    gradient = tuple(a - b for a, b in zip(own.gradient, inter.gradient, strict=True))
    wanted = jnp.maximum(u2 - u1, 0) * jnp.maximum(v2 - v1, 0)
    return Derivatives(own.value + wanted - inter.value, gradient, lambda i, j: own.hessian(i, j) - inter.hessian(i, j))


def hull(boxes: Array, targets: Array) -> tuple[tuple[Column, Column], Four]:
    """Return the sides of the smallest box around both, and their slopes. Reversed boxes have corners as well."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = columns(boxes), columns(targets)
    (width, by_x1, by_x2), (height, by_y1, by_y2) = _extent(x1, x2, u1, u2), _extent(y1, y2, v1, v2)
    return (width, height), (by_x1, by_y1, by_x2, by_y2)


def _extent(a: Column, b: Column, u: Column, v: Column) -> tuple[Column, Column, Column]:
    """Return the length of the smallest interval that contains four numbers, and its slopes by `a` and `b`."""
    low, high = (jnp.minimum(a, u), jnp.minimum(b, v)), (jnp.maximum(a, u), jnp.maximum(b, v))
    first, last = below(*low), below(*high)  # shares of `a` and `u` in the lower end, of `b` and `v` in the upper one
    by_a = (1 - last) * below(u, a) - first * below(a, u)
    by_b = last * below(v, b) - (1 - first) * below(b, v)
    return jnp.maximum(*high) - jnp.minimum(*low), by_a, by_b


def distance(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the squared distance of the centres over the squared diagonal of the hull."""
    x1, y1, x2, y2 = (a - b for a, b in zip(columns(boxes), columns(targets), strict=True))
    shift = sum_of_squares(((x1 + x2) / 2, (y1 + y2) / 2), (0.5, 0.5, 0.5, 0.5))
    return quotient(shift, sum_of_squares(*hull(boxes, targets)))


def angle(boxes: Array, targets: Array) -> Derivatives:
    """Return derivatives of the difference of the angles atan(w/h).

    The difference is computed as one angle, which keeps its digits where the two are nearly equal.
    """
    (x1, y1, x2, y2), (u1, v1, u2, v2) = columns(boxes), columns(targets)
    w, h, wanted_w, wanted_h = (jnp.maximum(side, SIDE_FLOOR) for side in (x2 - x1, y2 - y1, u2 - u1, v2 - v1))
    wide, high = below(SIDE_FLOOR, x2 - x1), below(SIDE_FLOOR, y2 - y1)
    value = jnp.arctan2(w * wanted_h - h * wanted_w, h * wanted_h + w * wanted_w)
    inverse = 1 / (w**2 + h**2)
    twice = -2 * w * h * inverse**2
    second = {
        (0, 0): wide**2 * twice,
        (0, 1): wide * high * (w**2 - h**2) * inverse**2,
        (1, 1): -(high**2) * twice,
    }

    def hessian(i: int, j: int) -> Column:
        return OUTWARD[i] * OUTWARD[j] * second[min(i % 2, j % 2), max(i % 2, j % 2)]

    by_w, by_h = wide * h * inverse, -high * w * inverse
    return Derivatives(value, (-by_w, -by_h, by_w, by_h), hessian)
