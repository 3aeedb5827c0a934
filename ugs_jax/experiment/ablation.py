"""The parts of UGS one by one: experiments that differ from one another in the localization objective only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ugs_jax import losses
from ugs_jax.experiment.config import Experiment
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Quality,
    Refinement,
    SecondStage,
    Uncertainty,
)
from ugs_jax.objectives.grids import AnyGrid

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
    "um": Method("CE + UM", lambda ugs: _even(_with_um(_cross_entropy(ugs), ugs))),
    "um_ur": Method("CE + UM + UR", lambda ugs: _even(_with_ur(_with_um(_cross_entropy(ugs), ugs), ugs))),
    "um_entropy": Method("CE + IN + UM (entropy)", lambda ugs: _with_um(_cross_entropy(ugs), ugs, "entropy")),
    "um_match": Method("CE + IN + UM (match)", lambda ugs: _with_um(_cross_entropy(ugs), ugs, "match")),
    "ur": Method("CE + IN + UM + UR", lambda ugs: _paper(ugs)),
    "fitted": Method(
        "CE + IN + UM + UR, fitted grids",
        lambda ugs: replace(_paper(ugs), center=FittedGrid(ugs.center.n), size=FittedGrid(ugs.size.n)),
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
"""By name on the command line. Rows without IN have grids as wide as IN's with even distances.

In rows without a loss on the decoded box, the cross entropy gets its weight too, so that all rows weigh boxes alike.
"""

PAPER_METHODS = ("l2", "ce", "in", "um", "um_ur", "ur")
"""The rows of the paper's table as they probably are: L2; CE; CE + IN; CE + UM; CE + UM + UR; all."""
CUMULATIVE_METHODS = ("l2", "ciou", "ce", "in", "um_match", "ur", "box_um_ur")
"""Every row adds one part to the row before."""
DEFAULT_METHODS = ("l2", "ciou", "ce", "in", "um", "um_ur", "ur", "box", "box_um_ur", "second", "quality")


def ablation(experiment: Experiment, methods: Sequence[str] = DEFAULT_METHODS) -> list[Experiment]:
    """Return an experiment with each of several objectives, under the method's name.

    Args:
      experiment: What all have in common. Its objective is the whole of UGS if it is a `UGS`; otherwise the
        default one is. Grids that it fits are fitted by the methods `fitted` and `config`; the others have the default
        ones.
      methods: Names from `METHODS`, the baseline first.

    Raises:
      ValueError: Methods that are unknown or repeated, or fewer than two.
    """
    check_methods(methods)
    ugs = experiment.localization if isinstance(experiment.localization, UGS) else UGS()
    given = replace(ugs, center=_by_hand(ugs.center), size=_by_hand(ugs.size))
    return [
        replace(experiment, name=METHODS[key].name, localization=METHODS[key].of(ugs if key == "config" else given))
        for key in methods
    ]


def check_methods(methods: Sequence[str]) -> None:
    """Raise ValueError for unknown or repeated methods, or fewer than two."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown or len(set(methods)) < max(len(methods), 2):
        raise ValueError(
            f"methods: expected two or more different ones of {', '.join(METHODS)}; got {' '.join(methods)}"
        )


def _by_hand(grid: AnyGrid) -> Grid | GridPoints:
    return Grid(2.0, 1.0, grid.n) if isinstance(grid, FittedGrid) else grid


def _cross_entropy(ugs: UGS) -> UGS:
    """Cross entropy alone, with the weight that UGS gives to boxes in all."""
    return replace(
        ugs,
        um=None,
        refinement=None,
        weight=ugs.weight + ugs.box_weight,
        box_weight=0.0,
        second_stage=None,
        quality=None,
    )


def _with_um(some: UGS, ugs: UGS, mode: Literal["entropy", "match"] | None = None) -> UGS:
    um = ugs.um or Uncertainty()
    return replace(some, um=um if mode is None else replace(um, mode=mode))


def _with_ur(some: UGS, ugs: UGS) -> UGS:
    return replace(some, refinement=ugs.refinement or Refinement())


def _with_box_loss(some: UGS, ugs: UGS) -> UGS:
    """A loss on the decoded box beside the rest: weighted as UGS does, half and half if it has none."""
    total = ugs.weight + ugs.box_weight
    share = ugs.box_weight / total or 0.5
    return replace(some, weight=(1 - share) * total, box_weight=share * total, box_loss=ugs.box_loss)


def _paper(ugs: UGS) -> UGS:
    return _with_ur(_with_um(_cross_entropy(ugs), ugs), ugs)


def _even(ugs: UGS) -> UGS:
    return replace(ugs, center=_even_grid(ugs.center), size=_even_grid(ugs.size))


def _even_grid(grid: AnyGrid) -> Grid:
    return Grid(float(abs(grid.points()).max()), n=grid.n)
