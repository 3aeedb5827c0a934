"""Localization objectives, interchangeable in any detector, ours or yours.

`protocol` defines the interface to detectors. An objective is a small immutable object with two functions: from the raw
outputs of an anchor to a box, and from raw outputs and a target box to losses. It does not depend on networks or
feature maps.
"""

from ugs_jax.objectives.box_regression import BoxLoss, BoxRegression
from ugs_jax.objectives.check import check_objective
from ugs_jax.objectives.dfl import DFL
from ugs_jax.objectives.grids import FittedGrid, Grid, GridPoints, d_fine_grid
from ugs_jax.objectives.interval import Uncertainty
from ugs_jax.objectives.protocol import (
    DescribesDecoding,
    FitsToTargets,
    GuidesRefinement,
    LimitsTargets,
    Localization,
    PredictsDeviation,
    PredictsDistribution,
    PredictsSpread,
    StartsAt,
    StartsFromDistribution,
    StartsFromRegression,
    Terms,
)
from ugs_jax.objectives.quality import Quality
from ugs_jax.objectives.refinement import Refinement
from ugs_jax.objectives.second_stage import SecondStage
from ugs_jax.objectives.side_regression import SideRegression
from ugs_jax.objectives.side_ugs import SIDE_POINTS, SideUGS
from ugs_jax.objectives.ugs import UGS

__all__ = [
    "DFL",
    "SIDE_POINTS",
    "UGS",
    "BoxLoss",
    "BoxRegression",
    "DescribesDecoding",
    "FitsToTargets",
    "FittedGrid",
    "Grid",
    "GridPoints",
    "GuidesRefinement",
    "LimitsTargets",
    "Localization",
    "PredictsDeviation",
    "PredictsDistribution",
    "PredictsSpread",
    "Quality",
    "Refinement",
    "SecondStage",
    "SideRegression",
    "SideUGS",
    "StartsAt",
    "StartsFromDistribution",
    "StartsFromRegression",
    "Terms",
    "Uncertainty",
    "check_objective",
    "d_fine_grid",
]
