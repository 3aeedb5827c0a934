"""Closed forms against automatic differentiation, in double precision, over the whole domain of an equation."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import jax
import numpy as np

from ugs_jax.curvature.equations import Equation, Form, call

COUNT = 20_000


@dataclass(frozen=True)
class Verdict:
    """What autodiff says of one equation.

    Attributes:
      equation: its number.
      title: what it is of.
      printed_error: worst relative error of the printed form; None where there is none. Infinite where not finite.
      exact_error: of the exact form.
      printed_holds: whether the error is within the equation's tolerance; None without a printed form.
      exact_holds: likewise.
      bound_ratio: largest eigenvalue over its bound, at worst; None without a bound.
      bound_holds: whether it is at most 1, to rounding; None without a bound.
      worst: the sample at which the exact form is worst, by variable.
      remark: the equation's.
    """

    equation: str
    title: str
    printed_error: float | None
    exact_error: float
    printed_holds: bool | None
    exact_holds: bool
    bound_ratio: float | None
    bound_holds: bool | None
    worst: dict[str, float | list[float]]
    remark: str

    @property
    def holds(self) -> bool:
        """Whether the exact form holds, and the bound if there is one."""
        return self.exact_holds and self.bound_holds is not False


def verify(equations: Iterable[Equation], *, count: int = COUNT, seed: int = 0) -> list[Verdict]:
    """Compare the forms of every equation with autodiff, in float64 whatever the session's precision.

    The error of a sample is ‖form − autodiff‖ / ‖autodiff‖ (Euclidean norms over the entries of one sample; the
    absolute difference where autodiff gives exactly 0).

    Args:
      equations: e.g. `SUPPLEMENT`, or your own.
      count: samples drawn from each domain.
      seed: of the samples.

    Raises:
      ValueError: no samples, a domain or a form that does not fit the loss; names the equation.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1 sample, got {count}")
    with jax.enable_x64(True):
        return [_verdict(equation, count, seed) for equation in equations]


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as text, a line each; `bound` is the largest eigenvalue over its bound, at worst."""
    header = ("equation", "of", "printed", "", "exact", "", "bound", "remark")
    rows = [header]
    for verdict in verdicts:
        printed = ("-", "") if verdict.printed_error is None else _cells(verdict.printed_error, verdict.printed_holds)
        exact = _cells(verdict.exact_error, verdict.exact_holds)
        bound = "" if verdict.bound_ratio is None else f"{verdict.bound_ratio:.2f} {_word(verdict.bound_holds)}"
        rows.append((verdict.equation, verdict.title, *printed, *exact, bound, verdict.remark))
    widths = [max(_width(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(c + " " * (width - _width(c)) for c, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0].rstrip(), "-" * max(map(_width, lines)), *(line.rstrip() for line in lines[1:])])


def to_json(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a JSON list; an infinite error is null with `holds` false."""
    return json.dumps(
        [{key: _plain(value) for key, value in asdict(verdict).items()} for verdict in verdicts], indent=1
    )


def to_latex(equations: Sequence[Equation], verdicts: Sequence[Verdict]) -> str:
    """A `tabular` of printed and exact forms with their verdicts, in the order of `equations`."""
    lines = [r"\begin{tabular}{lllll}", r"Eq. & printed & holds & exact & holds \\ \hline"]
    for equation, verdict in zip(equations, verdicts, strict=True):
        cells = [equation.number]
        for form, holds in (
            (equation.latex_printed, verdict.printed_holds),
            (equation.latex, verdict.exact_holds),
        ):
            cells += [f"${form}$" if form else "--", "--" if holds is None else "yes" if holds else "no"]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\end{tabular}"])


def _verdict(equation: Equation, count: int, seed: int) -> Verdict:
    try:
        drawn = equation.domain(np.random.default_rng(seed), count)
        samples = {name: np.asarray(values, np.float64) for name, values in drawn.items()}
        wanted = _evaluate(equation.autodiff(), samples)
        exact = _errors(_evaluate(equation.exact, samples), wanted)
        printed = None if equation.printed is None else _errors(_evaluate(equation.printed, samples), wanted)
        ratio = None if equation.bound is None else _largest(wanted) / _evaluate(equation.bound, samples)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"equation {equation.number}: {error}") from error
    worst = int(np.argmax(exact))
    return Verdict(
        equation=equation.number,
        title=equation.title,
        printed_error=None if printed is None else float(printed.max()),
        exact_error=float(exact.max()),
        printed_holds=None if printed is None else bool(printed.max() <= equation.tolerance),
        exact_holds=bool(exact.max() <= equation.tolerance),
        bound_ratio=None if ratio is None else float(ratio.max()),
        bound_holds=None if ratio is None else bool(ratio.max() <= 1 + equation.tolerance),
        worst={name: values[worst].tolist() for name, values in samples.items()},
        remark=equation.remark,
    )


def _evaluate(form: Form, samples: Mapping[str, np.ndarray]) -> np.ndarray:
    mapped = jax.jit(jax.vmap(lambda variables: call(form, variables)))(dict(samples))
    return np.asarray(mapped, np.float64)


def _errors(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Relative errors [count]; infinite where either is not finite."""
    if values.shape != wanted.shape:
        raise ValueError(f"expected a form of shape {wanted.shape[1:]}, as autodiff gives, got {values.shape[1:]}")
    flat, reference = values.reshape(len(values), -1), wanted.reshape(len(wanted), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.linalg.norm(reference, axis=1)
        error = np.linalg.norm(flat - reference, axis=1) / np.where(size > 0, size, 1.0)
    return np.where(np.isfinite(error), error, np.inf)


def _width(text: str) -> int:
    """Columns of a terminal: combining accents take none."""
    return sum(not unicodedata.combining(character) for character in text)


def _largest(hessians: np.ndarray) -> np.ndarray:
    """Largest eigenvalue [count] of scalars [count] or matrices [count, n, n]."""
    return hessians if hessians.ndim == 1 else np.linalg.eigvalsh(hessians)[:, -1]


def _cells(error: float, holds: bool | None) -> tuple[str, str]:
    return f"{error:.1e}", _word(holds)


def _word(holds: bool | None) -> str:
    return "holds" if holds else "FAILS"


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value
