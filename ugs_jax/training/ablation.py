"""The parts of UGS one by one: experiments that differ from one another in the localization objective only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ugs_jax import losses
from ugs_jax.objectives import DFL, UGS, BoxRegression, FittedGrid, Grid, GridPoints, Uncertainty
from ugs_jax.objectives.grids import AnyGrid
from ugs_jax.training.config import Experiment

Objective = BoxRegression | DFL | UGS


@dataclass(frozen=True)
class Method:
    """One row of an ablation: its name, and the objective it makes of the whole of UGS."""

    name: str
    of: Callable[[UGS], Objective]


METHODS: dict[str, Method] = {
    "l2": Method("L2", lambda _: BoxRegression(losses.l2, space="offsets")),
    "smooth_l1": Method("smooth L1", lambda _: BoxRegression(losses.smooth_l1, space="offsets")),
    "ciou": Method("CIoU", lambda _: BoxRegression()),
    "dfl": Method("DFL", lambda _: DFL()),
    "ce": Method("CE", lambda ugs: _even(_cross_entropy(ugs))),
    "in": Method("CE + IN", lambda ugs: _cross_entropy(ugs)),
    "um_entropy": Method("CE + IN + UM (entropy)", lambda ugs: replace(ugs, um=_of(ugs, "entropy"), refinement=None)),
    "um_match": Method("CE + IN + UM (match)", lambda ugs: replace(ugs, um=_of(ugs, "match"), refinement=None)),
    "ur": Method("CE + IN + UM + UR", lambda ugs: ugs),
    "fitted": Method(
        "CE + IN + UM + UR, fitted grids",
        lambda ugs: replace(ugs, center=FittedGrid(ugs.center.n), size=FittedGrid(ugs.size.n)),
    ),
}
"""By name on the command line. CE alone has grids as wide as IN's with even distances."""

DEFAULT_METHODS = ("l2", "ciou", "ce", "in", "um_entropy", "um_match", "ur", "fitted")


def ablation(experiment: Experiment, methods: Sequence[str] = DEFAULT_METHODS) -> list[Experiment]:
    """An experiment with each of several objectives, under the method's name.

    Args:
      experiment: what all have in common. Its objective is the whole of UGS if it is an `UGS`; otherwise the
        default one is. Grids that it fits are fitted by the method `fitted`; the others have the default ones.
      methods: names from `METHODS`, the baseline first.

    Raises:
      ValueError: unknown or repeated methods, or fewer than two.
    """
    check_methods(methods)
    ugs = experiment.localization if isinstance(experiment.localization, UGS) else UGS()
    ugs = replace(ugs, center=_by_hand(ugs.center), size=_by_hand(ugs.size))
    return [replace(experiment, name=METHODS[key].name, localization=METHODS[key].of(ugs)) for key in methods]


def check_methods(methods: Sequence[str]) -> None:
    """Raises ValueError for unknown or repeated methods, or fewer than two."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown or len(set(methods)) < max(len(methods), 2):
        raise ValueError(
            f"methods: expected two or more different ones of {', '.join(METHODS)}; got {' '.join(methods)}"
        )


def _by_hand(grid: AnyGrid) -> Grid | GridPoints:
    return Grid(2.0, 1.0, grid.n) if isinstance(grid, FittedGrid) else grid


def _cross_entropy(ugs: UGS) -> UGS:
    return replace(ugs, um=None, refinement=None)


def _even(ugs: UGS) -> UGS:
    return replace(ugs, center=_even_grid(ugs.center), size=_even_grid(ugs.size))


def _even_grid(grid: AnyGrid) -> Grid:
    return Grid(float(abs(grid.points()).max()), n=grid.n)


def _of(ugs: UGS, mode: Literal["entropy", "match"]) -> Uncertainty:
    return replace(ugs.um or Uncertainty(), mode=mode)
