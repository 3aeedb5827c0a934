"""Settings of UGS: grids of labels, uncertainty minimisation, refinement."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Real

from ugs_jax.labels import checked_grid, fit_interval_grid, interval_grid, quantile_grid, uniform_grid


@dataclass(frozen=True)
class Refinement:
    """UR: `radius` ρ of the feature perturbation, `weight` γ of the loss there. The paper: ρ = 0.5, γ = 0.1."""

    radius: float = 0.5
    weight: float = 0.1


@dataclass(frozen=True)
class Uncertainty:
    """UM: `match` the entropy of the prediction to the label's, or minimise the `entropy`; `weight` λ.

    The paper minimises the entropy with λ = 0.5; its first version on arXiv matched it. The minimum of the cross
    entropy has the label's entropy, which is above 0 for targets between grid points: `entropy` pulls away from it,
    `match` does not. `match` was ahead in our runs, by no more than seeds differ (experiments/results).
    """

    mode: Literal["entropy", "match"] = "match"
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.mode not in ("entropy", "match"):
            raise ValueError(f"Uncertainty.mode: expected 'entropy' or 'match', got {self.mode!r}")


@dataclass(frozen=True)
class Grid:
    """Label positions of one kind of box parameter: n+1 points from −`alpha` to `alpha`; `beta` 0 is uniform."""

    alpha: float
    beta: float = 0.0
    n: int = 10

    def points(self) -> np.ndarray:
        """The n+1 positions; raises ValueError for settings out of range."""
        return interval_grid(self.alpha, self.beta, self.n) if self.beta else uniform_grid(self.alpha, self.n)


@dataclass(frozen=True)
class GridPoints:
    """Label positions given one by one, increasing."""

    positions: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of intervals."""
        return len(self.positions) - 1

    def points(self) -> np.ndarray:
        """The n+1 positions; raises ValueError for fewer than two, or unsorted ones."""
        return checked_grid(np.asarray(self.positions, np.float64))


@dataclass(frozen=True)
class FittedGrid:
    """Label positions that follow the targets of the training set; fitted when a run begins, and kept with it.

    Attributes:
      n: intervals.
      rule: `quantiles`: every interval holds about as many targets (`labels.quantile_grid`); `interval`: the IN grid,
        α and β, that comes nearest to that (`labels.fit_interval_grid`).
      coverage: share of the targets inside the range; others are clipped to its ends.
    """

    n: int = 10
    rule: Literal["quantiles", "interval"] = "quantiles"
    coverage: float = 0.999

    def __post_init__(self) -> None:
        if self.rule not in ("quantiles", "interval"):
            raise ValueError(f"FittedGrid.rule: expected 'quantiles' or 'interval', got {self.rule!r}")
        if self.n < 1:
            raise ValueError(f"FittedGrid.n: expected at least 1 interval, got {self.n}")
        if not 0 < self.coverage <= 1:
            raise ValueError(f"FittedGrid.coverage: expected a share in (0, 1], got {self.coverage}")

    def fit(self, offsets: Real[np.ndarray, "..."]) -> Grid | GridPoints:
        """The grid of a sample of targets; raises ValueError where they give none."""
        if self.rule == "interval":
            alpha, beta = fit_interval_grid(offsets, self.n, coverage=self.coverage)
            return Grid(alpha, beta, self.n)
        return GridPoints(tuple(quantile_grid(offsets, self.n, coverage=self.coverage).tolist()))

    def points(self) -> np.ndarray:
        """Raises ValueError: there are none before `fit`."""
        raise ValueError(
            f"{self}: expected a grid that is fitted; training fits it to its data set, elsewhere call "
            "`Interval.fit(offsets)` with a sample of targets"
        )


AnyGrid = Grid | GridPoints | FittedGrid
"""How label positions are set."""
