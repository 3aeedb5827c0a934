"""Verdicts as text, JSON and LaTeX."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ugs_jax.curvature.equations import Equation
from ugs_jax.curvature.latex import escape
from ugs_jax.curvature.verify import Verdict


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a text table, one line each.

    The column `bound` is the largest ratio of an eigenvalue to its bound.
    """
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
    """Return the verdicts as a JSON list. An infinite error is null, and its `holds` is false."""
    return json.dumps(
        [{key: _plain(value) for key, value in asdict(verdict).items()} for verdict in verdicts], indent=1
    )


def to_latex(equations: Sequence[Equation], verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a LaTeX `tabular`, in the order of `equations`; `bound` is the same as in `table`.

    Numbers and titles are escaped. The forms are the LaTeX of the equations, unchanged.

    Args:
      equations: Equations, for example `SUPPLEMENT`.
      verdicts: Verdict on each equation, in the same order.
    """
    lines = [r"\begin{tabular}{lllllllr}", r"Eq. & of & printed & holds & exact & holds & bound & holds \\ \hline"]
    for equation, verdict in zip(equations, verdicts, strict=True):
        cells = [escape(equation.number), escape(equation.title)]
        for form, holds in (
            (equation.latex_printed, verdict.printed_holds),
            (equation.latex, verdict.exact_holds),
        ):
            cells += [f"${form}$" if form else "--", _yes(holds)]
        cells += ["--" if verdict.bound_ratio is None else f"{verdict.bound_ratio:.2f}", _yes(verdict.bound_holds)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\end{tabular}"])


def _yes(holds: bool | None) -> str:
    return "--" if holds is None else "yes" if holds else "no"


def _width(text: str) -> int:
    """Return the width of a text in a terminal. Combining accents have no width."""
    return sum(not unicodedata.combining(character) for character in text)


def _cells(error: float, holds: bool | None) -> tuple[str, str]:
    return f"{error:.1e}", _word(holds)


def _word(holds: bool | None) -> str:
    return "holds" if holds else "FAILS"


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value
