"""Curvature of localization losses: closed forms, verified against automatic differentiation.

- `SUPPLEMENT`, `BEYOND`: the published equations, and equations that the supplement leaves out, as data (`Equation`);
- `verify`: compares these equations, or your own, with `jax.grad` and `jax.hessian` in double precision;
- `closed_forms`: batched Hessians of the box losses; `bounds`: bounds of their largest eigenvalue by size of the box;
- `hessian`, `eigenvalues`: Hessians of each box, in closed form where `register_hessian` knows one, else by autodiff;
- `hvp`, `gauss_newton_product`: products with the curvature of any model by autodiff;
- `in_double`: calls a function in float64.

This package needs JAX and NumPy only.
"""

from ugs_jax.curvature import bounds, closed_forms
from ugs_jax.curvature.autodiff import gauss_newton_product, hessian_by_autodiff, hvp, in_double
from ugs_jax.curvature.beyond import BEYOND
from ugs_jax.curvature.equations import Equation, derivative
from ugs_jax.curvature.registry import check_hessian, eigenvalues, hessian, register_hessian
from ugs_jax.curvature.supplement import SUPPLEMENT
from ugs_jax.curvature.verdict_table import table, to_json, to_latex
from ugs_jax.curvature.verify import Verdict, verify

__all__ = [
    "BEYOND",
    "SUPPLEMENT",
    "Equation",
    "Verdict",
    "bounds",
    "check_hessian",
    "closed_forms",
    "derivative",
    "eigenvalues",
    "gauss_newton_product",
    "hessian",
    "hessian_by_autodiff",
    "hvp",
    "in_double",
    "register_hessian",
    "table",
    "to_json",
    "to_latex",
    "verify",
]
