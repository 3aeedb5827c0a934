"""Derivatives derived by hand, as data: the loss, the printed form, the exact form, and the domain of samples.

`verify` compares both forms with `jax.grad` or `jax.hessian` of the loss.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Form = Callable[..., Array | float]
Domain = Callable[[np.random.Generator, int], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Equation:
    """A derivative that was derived by hand, with everything needed to check it.

    Each function takes the variables of `domain` that its signature names, for one sample: scalars, or vectors where
    the domain draws vectors. To check your own derivative, give `loss`, `variable`, `order`, `exact` (your form) and
    `domain`:

    >>> import jax.numpy as jnp
    >>> from ugs_jax.curvature import Equation, verify
    >>> mine = Equation(
    ...     number="mine",
    ...     title="second derivative of sin",
    ...     loss=lambda x: jnp.sin(x),
    ...     variable="x",
    ...     order=2,
    ...     exact=lambda x: -jnp.sin(x),
    ...     domain=lambda rng, count: {"x": rng.uniform(1, 2, count)},
    ... )
    >>> [verdict.exact_holds for verdict in verify([mine])]
    [True]

    Attributes:
      number: Name in the report: the number of the equation in its source.
      title: Short description.
      loss: Scalar loss.
      exact: Form that should hold.
      domain: Function from a random generator and a count to samples by variable, float64 arrays [count] or
        [count, …].
      variable: Variable of differentiation; None for order 0.
      order: Order of the derivative: 0 compares values, 1 the gradient, 2 the Hessian.
      printed: Form in the source, if it has one.
      bound: Upper bound of the largest eigenvalue, for equations of order 2.
      reference: Function that autodiff must compute, if it is not the derivative of `loss` of `order` by `variable`.
      unit: Unit of the result, for a loss without unit and lengths in px.
      remark: One line that says what is wrong with the printed form, or what to notice.
      latex: LaTeX of `exact`.
      latex_printed: LaTeX of `printed`.
      tolerance: Largest relative error with which a form holds.
    """

    number: str
    title: str
    loss: Form
    exact: Form
    domain: Domain
    variable: str | None = None
    order: int = 2
    printed: Form | None = None
    bound: Form | None = None
    reference: Form | None = None
    unit: str = "1"
    remark: str = ""
    latex: str = ""
    latex_printed: str = ""
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        if self.order not in (0, 1, 2):
            raise ValueError(f"equation {self.number}: expected an order of 0, 1 or 2, got {self.order!r}")
        if self.order and self.variable is None and self.reference is None:
            raise ValueError(
                f"equation {self.number}: expected the variable that order {self.order} differentiates by, got None"
            )
        if self.bound is not None and self.order != 2:
            raise ValueError(f"equation {self.number}: expected order 2 for a bound of eigenvalues, got {self.order}")
        if not self.tolerance > 0:
            raise ValueError(f"equation {self.number}: expected a tolerance > 0, got {self.tolerance!r}")

    def autodiff(self) -> Form:
        """Return the function that both forms are compared with."""
        if self.reference is not None:
            return self.reference
        if self.order == 0 or self.variable is None:
            return self.loss
        return derivative(self.loss, self.variable, self.order)


def arguments(form: Form) -> list[str] | None:
    """Return the names of the variables that a form takes; None if it takes any variable, by `**`."""
    named = inspect.signature(form).parameters
    return None if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values()) else list(named)


def call(form: Form, variables: Mapping[str, Array]) -> Array:
    """Call a form with the variables that its signature names. Those that the domain does not draw keep their defaults.

    Raises:
      ValueError: A variable that the form names, and that has no default, is missing.
    """
    named = inspect.signature(form).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in named.values()):
        return jnp.asarray(form(**variables))
    missing = [name for name, p in named.items() if name not in variables and p.default is p.empty]
    if missing:
        raise ValueError(f"expected variables among {', '.join(variables)}, as the domain draws, got {missing[0]!r}")
    given = {name: parameter for name, parameter in named.items() if name in variables}
    positional = [name for name, parameter in given.items() if parameter.kind is inspect.Parameter.POSITIONAL_ONLY]
    rest = {name: variables[name] for name in given if name not in positional}
    return jnp.asarray(form(*(variables[name] for name in positional), **rest))


def derivative(function: Form, variable: str, order: int) -> Form:
    """Return `jax.grad` (order 1) or `jax.hessian` (order 2) of a scalar function by one keyword argument.

    Args:
      function: Scalar function of keyword arguments.
      variable: Name of the keyword argument.
      order: Order of the derivative, 1 or 2.
    """
    transform = {1: jax.grad, 2: jax.hessian}[order]

    def differentiated(**variables: Array) -> Array:
        return transform(lambda x: call(function, {**variables, variable: x}))(variables[variable])

    return differentiated
