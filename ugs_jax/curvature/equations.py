"""Derivatives written down by hand, as data: the loss, the form printed, the form that is right, where each applies.

`verify` compares both forms with what `jax.grad` and `jax.hessian` make of the loss.
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
    """A derivative somebody derived by hand, with all it takes to check it.

    The functions take those variables of `domain` that they name, for one sample: scalars, or vectors where the domain
    draws vectors. For your own, give `loss`, `variable`, `order`, `exact` (what you derived) and `domain`:

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
      number: what it is called in the report; the equation's number in its source.
      title: what it says.
      loss: the scalar loss the derivative is of.
      exact: the form that should hold.
      domain: from a random generator and a count to samples by variable, [count] or [count, …] float64 arrays.
      variable: what is differentiated by; None for order 0.
      order: 0 compares values, 1 the gradient, 2 the Hessian.
      printed: the form in the source, if it is another one.
      bound: upper bound of the largest eigenvalue, of equations of order 2.
      reference: what autodiff is to compute, where it is not the derivative of `loss` of `order` by `variable`.
      unit: of the result, for a loss without unit and lengths in px.
      remark: one line: what is wrong with the printed form, or what to see here.
      latex: of `exact`.
      latex_printed: of `printed`.
      tolerance: relative error up to which a form holds.
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
        """The function that both forms are measured against."""
        if self.reference is not None:
            return self.reference
        if self.order == 0 or self.variable is None:
            return self.loss
        return derivative(self.loss, self.variable, self.order)


def arguments(form: Form) -> list[str] | None:
    """Return the names of the variables that a form takes; None if it takes any, by `**`."""
    named = inspect.signature(form).parameters
    return None if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values()) else list(named)


def call(form: Form, variables: Mapping[str, Array]) -> Array:
    """`form` of those variables that it names.

    Raises:
      ValueError: it names one that there is not.
    """
    named = inspect.signature(form).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in named.values()):
        return jnp.asarray(form(**variables))
    missing = [name for name in named if name not in variables]
    if missing:
        raise ValueError(f"expected variables among {', '.join(variables)}, as the domain draws, got {missing[0]!r}")
    only = [name for name, parameter in named.items() if parameter.kind is inspect.Parameter.POSITIONAL_ONLY]
    rest = {name: variables[name] for name in named if name not in only}
    return jnp.asarray(form(*(variables[name] for name in only), **rest))


def derivative(function: Form, variable: str, order: int) -> Form:
    """`jax.grad` (order 1) or `jax.hessian` (order 2) of a scalar function by one keyword argument."""
    transform = {1: jax.grad, 2: jax.hessian}[order]

    def differentiated(**variables: Array) -> Array:
        return transform(lambda x: call(function, {**variables, variable: x}))(variables[variable])

    return differentiated
