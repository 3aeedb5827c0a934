"""Ablation of the parts of UGS: experiments that differ only in the localization objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ugs_jax import losses
from ugs_jax.experiment.config import Experiment
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    PredictsDeviation,
    PredictsSpread,
    Quality,
    Refinement,
    SecondStage,
    SideUGS,
    Uncertainty,
)
from ugs_jax.objectives.grids import AnyGrid

Interval = UGS | SideUGS
Objective = BoxRegression | DFL | Interval


@dataclass(frozen=True)
class Method:
    """One row of an ablation.

    Attributes:
      name: Name of the row.
      of: Function from the full objective, `UGS` or `SideUGS`, to the objective of the row.
    """

    name: str
    of: Callable[[Interval], Objective]


METHODS: dict[str, Method] = {
    "l2": Method("L2", lambda _: BoxRegression(losses.l2, space="offsets")),
    "smooth_l1": Method("smooth L1", lambda _: BoxRegression(losses.smooth_l1, space="offsets")),
    "ciou": Method("CIoU", lambda _: BoxRegression()),
    "dfl": Method("DFL", lambda _: DFL()),
    "ce": Method("CE", lambda ugs: _even(_cross_entropy(ugs))),
    "in": Method("CE + IN", lambda ugs: _cross_entropy(ugs)),
    "um": Method("CE + UM", lambda ugs: _even(_with_um(_cross_entropy(ugs), ugs))),
    "um_ur": Method("CE + UM + UR", lambda ugs: _even(_with_ur(_with_um(_cross_entropy(ugs), ugs), ugs))),
    "um_entropy": Method("CE + IN + UM (entropy)", lambda ugs: _with_um(_cross_entropy(ugs), ugs, "entropy")),
    "um_match": Method("CE + IN + UM (match)", lambda ugs: _with_um(_cross_entropy(ugs), ugs, "match")),
    "ur": Method("CE + IN + UM + UR", lambda ugs: _paper(ugs)),
    "fitted": Method(
        "CE + IN + UM + UR, fitted grids",
        lambda ugs: _with_grids(_paper(ugs), lambda grid: FittedGrid(grid.n)),
    ),
    "box": Method("CE + IN + box loss", lambda ugs: _with_box_loss(_cross_entropy(ugs), ugs)),
    "box_um_ur": Method("CE + IN + UM + UR + box loss", lambda ugs: _with_box_loss(_paper(ugs), ugs)),
    "second": Method(
        "CE + IN + box loss + second stage",
        lambda ugs: replace(_with_box_loss(_cross_entropy(ugs), ugs), second_stage=ugs.second_stage or SecondStage()),
    ),
    "quality": Method(
        "CE + IN + box loss + quality",
        lambda ugs: replace(_with_box_loss(_cross_entropy(ugs), ugs), quality=ugs.quality or Quality()),
    ),
    "config": Method("UGS as in the config", lambda ugs: ugs),
}
"""Methods by their name on the command line.

Rows without IN have evenly spaced grids of the same width as those of IN, for `SideUGS` with the same ends. In rows
without a loss on the decoded box, the cross entropy also gets the weight of that loss, so that all rows give boxes the
same weight.
"""

PAPER_METHODS = ("l2", "ce", "in", "um", "um_ur", "ur")
"""Methods that are probably the rows of the paper's table: L2; CE; CE + IN; CE + UM; CE + UM + UR; all parts."""
CUMULATIVE_METHODS = ("l2", "ciou", "ce", "in", "um_match", "ur", "box_um_ur")
"""Methods that each add one part to the method before."""
DEFAULT_METHODS = ("l2", "ciou", "ce", "in", "um", "um_ur", "ur", "box", "box_um_ur", "second", "quality")


def ablation(experiment: Experiment, methods: Sequence[str] = DEFAULT_METHODS) -> list[Experiment]:
    """Return one experiment for each method, named after it.

    Args:
      experiment: Settings that all experiments share. If its objective is a `UGS` or a `SideUGS`, methods are derived
        from it, otherwise from the default `UGS`. A `FittedGrid` is used by the methods `fitted` and `config` only; the
        other methods use the default grid instead. Scores are not rescored by spread where the objective predicts none.
      methods: Names from `METHODS`, the baseline first.

    Raises:
      ValueError: A method is unknown or repeated, or there are fewer than two.
    """
    check_methods(methods)
    ugs = experiment.localization if isinstance(experiment.localization, (UGS, SideUGS)) else UGS()
    default = SideUGS().grid if isinstance(ugs, SideUGS) else None
    given = _with_grids(ugs, lambda grid: _by_hand(grid, default))
    return [_of_method(experiment, METHODS[key], ugs if key == "config" else given) for key in methods]


def _of_method(experiment: Experiment, method: Method, ugs: Interval) -> Experiment:
    objective, postprocess = method.of(ugs), experiment.postprocess
    if not isinstance(objective, (PredictsSpread, PredictsDeviation)):
        postprocess = replace(postprocess, spread_penalty=0.0)
    name = method.name.replace("UGS", type(ugs).__name__)
    return replace(experiment, name=name, localization=objective, postprocess=postprocess)


def check_methods(methods: Sequence[str]) -> None:
    """Raise a ValueError for unknown or repeated methods, and for fewer than two methods."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown or len(set(methods)) < max(len(methods), 2):
        raise ValueError(
            f"methods: expected at least two different methods of {', '.join(METHODS)}; got {' '.join(methods)}"
        )


def _with_grids(objective: Interval, changed: Callable[[AnyGrid], AnyGrid]) -> Interval:
    """Return the objective with each of its grids changed."""
    if isinstance(objective, UGS):
        return replace(objective, center=changed(objective.center), size=changed(objective.size))
    return replace(objective, grid=changed(objective.grid))


def _by_hand(grid: AnyGrid, default: AnyGrid | None) -> AnyGrid:
    return (default or Grid(2.0, 1.0, grid.n)) if isinstance(grid, FittedGrid) else grid


def _cross_entropy(ugs: Interval) -> Interval:
    """Return the cross entropy alone, with the total weight that UGS gives to boxes."""
    return replace(
        ugs,
        um=None,
        refinement=None,
        weight=ugs.weight + ugs.box_weight,
        box_weight=0.0,
        second_stage=None,
        quality=None,
    )


def _with_um(some: Interval, ugs: Interval, mode: Literal["entropy", "match"] | None = None) -> Interval:
    um = ugs.um or Uncertainty()
    return replace(some, um=um if mode is None else replace(um, mode=mode))


def _with_ur(some: Interval, ugs: Interval) -> Interval:
    return replace(some, refinement=ugs.refinement or Refinement())


def _with_box_loss(some: Interval, ugs: Interval) -> Interval:
    """Add a loss on the decoded box, with the share of the weight that UGS gives it, or half if UGS has none."""
    total = ugs.weight + ugs.box_weight
    share = ugs.box_weight / total or 0.5
    return replace(some, weight=(1 - share) * total, box_weight=share * total, box_loss=ugs.box_loss)


def _paper(ugs: Interval) -> Interval:
    return _with_ur(_with_um(_cross_entropy(ugs), ugs), ugs)


def _even(objective: Interval) -> Interval:
    return _with_grids(objective, _even_grid if isinstance(objective, UGS) else _even_points)


def _even_grid(grid: AnyGrid) -> Grid:
    return Grid(float(abs(grid.points()).max()), n=grid.n)


def _even_points(grid: AnyGrid) -> GridPoints:
    points = grid.points()
    return GridPoints(tuple(np.linspace(points[0], points[-1], len(points)).tolist()))
