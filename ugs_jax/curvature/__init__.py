"""Curvature of localization losses: closed forms, verified against automatic differentiation.

- `SUPPLEMENT`, `BEYOND`: the published equations, and equations that the supplement leaves out, as data (`Equation`);
- `verify`: compares these equations, or your own, with `jax.grad` and `jax.hessian` in double precision;
- `closed_forms`: batched Hessians of the box losses; `bounds`: bounds of their largest eigenvalue by size of the box;
- `hessian`, `eigenvalues`, `hvp`, `gauss_newton_product`: exact curvature of any loss by autodiff;
- `in_double`: calls a function in float64.

This package needs JAX and NumPy only.
"""

from ugs_jax.curvature import bounds, closed_forms
from ugs_jax.curvature.autodiff import eigenvalues, gauss_newton_product, hessian, hvp, in_double
from ugs_jax.curvature.beyond import BEYOND
from ugs_jax.curvature.equations import Equation, derivative
from ugs_jax.curvature.supplement import SUPPLEMENT
from ugs_jax.curvature.verdict_table import table, to_json, to_latex
from ugs_jax.curvature.verify import Verdict, verify

__all__ = [
    "BEYOND",
    "SUPPLEMENT",
    "Equation",
    "Verdict",
    "bounds",
    "closed_forms",
    "derivative",
    "eigenvalues",
    "gauss_newton_product",
    "hessian",
    "hvp",
    "in_double",
    "table",
    "to_json",
    "to_latex",
    "verify",
]
