"""Comparison of closed forms with automatic differentiation, in float64, over the domain of an equation."""

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import numpy as np

from ugs_jax.curvature.diagnosis import diagnose
from ugs_jax.curvature.equations import Equation
from ugs_jax.curvature.smoothness import Derivatives, differentiate, evaluate

COUNT = 20_000


@dataclass(frozen=True)
class Verdict:
    """Comparison of one equation with autodiff.

    Attributes:
      equation: Number of the equation.
      title: Title of the equation.
      printed_error: Largest relative error of the printed form; None without a printed form. It is infinite if the form
        or the loss is not finite somewhere, or if a sample lies on a kink.
      exact_error: Largest relative error of the exact form, computed in the same way.
      printed_holds: True if the printed form is within the equation's tolerance; None without a printed form.
      exact_holds: True if the exact form is within the equation's tolerance.
      bound_ratio: Largest ratio of the largest eigenvalue to its bound; None without a bound.
      bound_holds: True if `bound_ratio` is at most 1, up to the tolerance; None without a bound.
      share: Share of the samples at which the exact form holds.
      diagnosis: Reason why the exact form does not hold, in one line: a constant factor, the variable that separates
        samples, a kink, or a loss that is not finite. Empty if the form holds.
      worst: Sample with the largest error of the exact form, by variable.
      remark: Remark of the equation.
    """

    equation: str
    title: str
    printed_error: float | None
    exact_error: float
    printed_holds: bool | None
    exact_holds: bool
    bound_ratio: float | None
    bound_holds: bool | None
    share: float
    diagnosis: str
    worst: dict[str, float | list[float]]
    remark: str

    @property
    def holds(self) -> bool:
        """True if the exact form holds, and the bound if there is one."""
        return self.exact_holds and self.bound_holds is not False


def verify(equations: Iterable[Equation], *, count: int = COUNT, seed: int = 0) -> list[Verdict]:
    """Compare the forms of every equation with autodiff, in float64 at any precision of the session.

    The error of a sample is ‖form − autodiff‖ / ‖autodiff‖ (Euclidean norms over the entries of one sample; the
    absolute difference where autodiff gives exactly 0). It is infinite where a form or the loss is not finite. It is
    also infinite where the loss has a kink or a jump: autodiff returns a number there, but no derivative.

    Args:
      equations: Equations to verify, for example `SUPPLEMENT` or your own.
      count: Number of samples drawn from each domain.
      seed: Seed of the samples.

    Returns:
      One verdict for each equation, in the same order.

    Raises:
      ValueError: `count` is below 1, or the domain or a form does not fit the loss. The message names the equation.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1 sample, got {count}")
    with jax.enable_x64(True):
        return [_verdict(equation, count, seed) for equation in equations]


def _verdict(equation: Equation, count: int, seed: int) -> Verdict:
    try:
        drawn = equation.domain(np.random.default_rng(seed), count)
        samples = {name: np.asarray(values, np.float64) for name, values in drawn.items()}
        derivatives = differentiate(equation, samples)
        form = evaluate(equation.exact, samples)
        exact = _errors(form, derivatives)
        printed = None if equation.printed is None else _errors(evaluate(equation.printed, samples), derivatives)
        ratio = None if equation.bound is None else _largest(derivatives.wanted) / evaluate(equation.bound, samples)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"equation {equation.number}: {error}") from error
    worst = int(np.argmax(exact))
    holds = exact <= equation.tolerance
    return Verdict(
        equation=equation.number,
        title=equation.title,
        printed_error=None if printed is None else float(printed.max()),
        exact_error=float(exact.max()),
        printed_holds=None if printed is None else bool(printed.max() <= equation.tolerance),
        exact_holds=bool(holds.all()),
        bound_ratio=None if ratio is None else float(ratio.max()),
        bound_holds=None if ratio is None else bool(ratio.max() <= 1 + equation.tolerance),
        share=float(holds.mean()),
        diagnosis=diagnose(samples, form, derivatives, holds, equation.variable),
        worst={name: values[worst].tolist() for name, values in samples.items()},
        remark=equation.remark,
    )


def _errors(values: np.ndarray, derivatives: Derivatives) -> np.ndarray:
    """Return relative errors [count]; infinite where a form or the loss is not finite, or autodiff is not reliable."""
    wanted, finite, jumps = derivatives
    if values.shape != wanted.shape:
        raise ValueError(f"expected a form of shape {wanted.shape[1:]}, as autodiff gives, got {values.shape[1:]}")
    flat, reference = values.reshape(len(values), -1), wanted.reshape(len(wanted), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.linalg.norm(reference, axis=1)
        error = np.linalg.norm(flat - reference, axis=1) / np.where(size > 0, size, 1.0)
    return np.where(np.isfinite(error) & finite & (jumps < 0), error, np.inf)


def _largest(hessians: np.ndarray) -> np.ndarray:
    """Return the largest eigenvalues [count] of scalars [count] or matrices [count, n, n]."""
    return hessians if hessians.ndim == 1 else np.linalg.eigvalsh(hessians)[:, -1]
