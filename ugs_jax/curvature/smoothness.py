"""Samples at which autodiff is not reliable, because the loss is not finite there, or has a kink or a jump."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from ugs_jax.curvature.equations import Equation, Form, arguments, call

Samples = Mapping[str, np.ndarray]

_NEAR, _FAR = 64.0, 512.0
"""Distances from a sample at which both sides are compared, in units of the rounding of its size."""

_JUMP = 1e-3
"""Relative difference between both sides that counts as a jump: far above rounding, far below a change of sign."""


class Derivatives(NamedTuple):
    """Derivatives of an equation's loss at every sample.

    Attributes:
      wanted: Derivatives that the forms are compared with.
      finite: True where the loss is finite, [count].
      jumps: Lowest order of a derivative of the loss that jumps at the sample, with 0 for the loss itself; −1 if none
        jumps.
    """

    wanted: np.ndarray
    finite: np.ndarray
    jumps: np.ndarray


def differentiate(equation: Equation, samples: Samples) -> Derivatives:
    """Return the derivative of an equation's loss at every sample, with the samples at which it is reliable.

    Args:
      equation: Equation with the loss, the variable and the order.
      samples: Float64 arrays by variable, [count, …].

    Raises:
      ValueError: The domain does not draw the variable, or the loss does not take it.
    """
    if equation.reference is not None or equation.order == 0 or equation.variable is None:
        loss = evaluate(equation.loss, samples)
        wanted = loss if equation.reference is None else evaluate(equation.reference, samples)
        return Derivatives(wanted, _all_finite(loss), np.full(len(loss), -1))
    variable = equation.variable
    if variable not in samples:
        raise ValueError(f"expected a variable among {', '.join(samples)}, as the domain draws, got {variable!r}")
    if (named := arguments(equation.loss)) is not None and variable not in named:
        raise ValueError(f"expected a loss of the variable {variable!r}, got a loss of {', '.join(named)}")
    of_all_orders = jax.jit(jax.vmap(partial(_orders, equation.loss, variable, equation.order)))

    def of_variable(values: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(array, np.float64) for array in of_all_orders({**samples, variable: values})]

    orders = of_variable(samples[variable])
    return Derivatives(orders[-1], _all_finite(orders[0]), _jumps(of_variable, samples[variable], np.abs(orders[0])))


def evaluate(form: Form, samples: Samples) -> np.ndarray:
    """Return the values of a form at every sample, float64."""
    mapped = jax.jit(jax.vmap(lambda variables: call(form, variables)))(dict(samples))
    return np.asarray(mapped, np.float64)


def _orders(loss: Form, variable: str, order: int, variables: Mapping[str, Array]) -> tuple[Array, ...]:
    """Return the loss, the gradient and, for order 2, the Hessian (forward over reverse) as one program."""

    def gradient(x: Array) -> tuple[Array, tuple[Array, Array]]:
        value, slope = jax.value_and_grad(lambda x: call(loss, {**variables, variable: x}))(x)
        return slope, (value, slope)

    if order == 1:
        return gradient(variables[variable])[1]
    hessian, lower = jax.jacfwd(gradient, has_aux=True)(variables[variable])
    return (*lower, hessian)


def _jumps(orders: Callable[[np.ndarray], list[np.ndarray]], values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the lowest order that jumps at every sample, or −1.

    Both sides of a sample are compared at two distances. Where the loss is smooth, the difference is in proportion to
    the distance.
    """
    unit = np.maximum(np.abs(values), np.median(np.abs(values)))
    unit = np.where(unit > 0, unit, 1.0)
    rng = np.random.default_rng(0)
    direction = rng.choice([-1.0, 1.0], values.shape) * rng.uniform(0.5, 2.0, values.shape)
    step = np.finfo(np.float64).eps * unit * direction
    length = np.min(unit.reshape(len(values), -1), axis=1)
    below, above, far_below, far_above = (orders(values + k * step) for k in (-_NEAR, _NEAR, -_FAR, _FAR))
    lowest = np.full(len(values), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        for order in reversed(range(len(below))):
            gap, far_gap = _norm(above[order] - below[order]), _norm(far_above[order] - far_below[order])
            clear = gap > _JUMP * np.maximum(_norm(below[order]), _norm(above[order]))
            above_rounding = gap > 1e-6 * size / length**order
            steady = gap > 0.5 * far_gap  # the ratio is an eighth where the loss is smooth
            lowest = np.where(clear & above_rounding & steady, order, lowest)
    return lowest


def _norm(values: np.ndarray) -> np.ndarray:
    return np.linalg.norm(values.reshape(len(values), -1), axis=1)


def _all_finite(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values).reshape(len(values), -1).all(axis=1)
