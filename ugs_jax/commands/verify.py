"""`ugs verify`: the table of equations on the command line. Needs nothing but JAX and NumPy."""

import argparse
import runpy
from collections.abc import Sequence
from pathlib import Path

from ugs_jax.curvature.beyond import BEYOND
from ugs_jax.curvature.equations import Equation
from ugs_jax.curvature.supplement import SUPPLEMENT
from ugs_jax.curvature.verdict_table import table, to_json, to_latex
from ugs_jax.curvature.verify import COUNT, verify


def main(words: Sequence[str]) -> int:
    """Verify the supplement's equations and ours, or those of the files given.

    Args:
      words: of the command line, after `verify`.

    Returns:
      The exit status: 0 if every exact form and every bound holds, 1 if not.

    Raises:
      ValueError: a file without equations, or an equation that cannot be evaluated.
    """
    options = _parser().parse_args(words)
    equations = [equation for file in options.files for equation in read_equations(file)] or [*SUPPLEMENT, *BEYOND]
    verdicts = verify(equations, count=options.count, seed=options.seed)
    if options.json:
        print(to_json(verdicts))
    elif options.latex:
        print(to_latex(equations, verdicts))
    else:
        print(table(verdicts))
        failed = [verdict.equation for verdict in verdicts if not verdict.holds]
        wrong = [verdict.equation for verdict in verdicts if verdict.printed_holds is False]
        print(f"\n{len(verdicts) - len(failed)} of {len(verdicts)} exact forms hold", end="")
        print(f"; these do not: {', '.join(failed)}" if failed else "", end="")
        print(f"; printed wrong: {', '.join(wrong)}" if wrong else "")
        for verdict in verdicts:
            if not verdict.exact_holds:
                print(f"{verdict.equation}: {verdict.diagnosis}")
                print(f"{verdict.equation} is worst at {verdict.worst}")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def read_equations(file: Path) -> list[Equation]:
    """The equations of a Python file that defines `equations = [Equation(…), …]`.

    Raises:
      ValueError: no such file, or nothing of the kind in it.
    """
    if not file.is_file():
        raise ValueError(f"{file}: expected a Python file with `equations = [Equation(…), …]`, found none")
    found = runpy.run_path(str(file)).get("equations")
    if not isinstance(found, list | tuple) or not found or not all(isinstance(one, Equation) for one in found):
        raise ValueError(f"{file}: expected `equations`, a list of ugs_jax.curvature.Equation, found {found!r}")
    return list(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ugs verify",
        description="Compare closed forms of gradients and Hessians with jax.grad and jax.hessian in float64. Without "
        "files: the supplement's equations 1-11, printed and exact, and whole Hessians of the box losses (A1-A9) "
        "with bounds of their largest eigenvalue. Exits 0 only if every exact form and every bound holds.",
    )
    parser.add_argument("files", nargs="*", type=Path, help="Python files that define `equations = [Equation(…), …]`")
    parser.add_argument("--count", type=int, default=COUNT, help="samples for each equation (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list instead of the table")
    form.add_argument("--latex", action="store_true", help="print a LaTeX tabular instead of the table")
    return parser
