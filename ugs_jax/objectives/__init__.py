"""Localization objectives: interchangeable in any detector, ours or yours.

`protocol` is the seam. Each objective turns raw numbers of an anchor into a box, and these and a target box into
losses. It is a small immutable object; nothing here knows of networks or feature maps.
"""

from ugs_jax.objectives.box_regression import BoxLoss, BoxRegression
from ugs_jax.objectives.dfl import DFL
from ugs_jax.objectives.grids import FittedGrid, Grid, GridPoints, d_fine_grid
from ugs_jax.objectives.protocol import (
    DescribesDecoding,
    FitsToTargets,
    GuidesRefinement,
    Localization,
    PredictsDeviation,
    PredictsDistribution,
    StartsFromRegression,
    Terms,
)
from ugs_jax.objectives.quality import Quality
from ugs_jax.objectives.refinement import Refinement
from ugs_jax.objectives.second_stage import SecondStage
from ugs_jax.objectives.ugs import UGS, Uncertainty

__all__ = [
    "DFL",
    "UGS",
    "BoxLoss",
    "BoxRegression",
    "DescribesDecoding",
    "FitsToTargets",
    "FittedGrid",
    "Grid",
    "GridPoints",
    "GuidesRefinement",
    "Localization",
    "PredictsDeviation",
    "PredictsDistribution",
    "Quality",
    "Refinement",
    "SecondStage",
    "StartsFromRegression",
    "Terms",
    "Uncertainty",
    "d_fine_grid",
]
