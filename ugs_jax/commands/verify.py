"""The command `ugs verify`: compare equations with autodiff. It needs JAX and NumPy only."""

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
    """Run `ugs verify`: verify the equations of the supplement and ours, or the equations in files.

    Args:
      words: Words of the command line after `verify`.

    Returns:
      Exit status: 0 if every exact form and every bound holds, else 1.

    Raises:
      ValueError: A file has no equations, or an equation cannot be evaluated.
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
    """Read the equations of a Python file that defines `equations = [Equation(…), …]`.

    Raises:
      ValueError: The file does not exist, or does not define a list of equations.
    """
    if not file.is_file():
        raise ValueError(f"{file}: expected a Python file with `equations = [Equation(…), …]`, found none")
    equations = runpy.run_path(str(file)).get("equations")
    if (
        not isinstance(equations, list | tuple)
        or not equations
        or not all(isinstance(equation, Equation) for equation in equations)
    ):
        raise ValueError(f"{file}: expected `equations`, a list of ugs_jax.curvature.Equation, found {equations!r}")
    return list(equations)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ugs verify",
        description="Compare closed forms of gradients and Hessians with jax.grad and jax.hessian in float64. Without "
        "files, the command verifies equations 1-11 of the supplement, printed and exact, and whole Hessians of the "
        "box losses (A1-A9) with bounds of their largest eigenvalue. The exit status is 0 only if every exact form and "
        "every bound holds.",
    )
    parser.add_argument("files", nargs="*", type=Path, help="Python files that define `equations = [Equation(…), …]`")
    parser.add_argument(
        "--count", type=int, default=COUNT, help="number of samples for each equation (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples (default: %(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list instead of the table")
    form.add_argument("--latex", action="store_true", help="print a LaTeX tabular instead of the table")
    return parser
