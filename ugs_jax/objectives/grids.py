"""Grids of labels: given by a rule, point by point, or fitted to the targets of a data set."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Real

from ugs_jax.labels import checked_grid, fit_interval_grid, interval_grid, quantile_grid, uniform_grid


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
            "`UGS.fit(offsets)` with a sample of targets"
        )


AnyGrid = Grid | GridPoints | FittedGrid
"""How label positions are set."""


def d_fine_grid(bins: int = 33, *, reach: float = 0.5, sharpness: float = 4.0) -> GridPoints:
    """Return D-FINE's grid: points packed around 0 geometrically, and two far ones at the ends.

    W(i) = sign(i − R/2) · ((a·c + 1)^{2·abs(i − R/2)/(R − 2)} − 1) for 0 < i < R = bins − 1, and W(0) = −2ac,
    W(R) = 2ac; divided by c, so that the far points are at ±2a.

    Args:
      bins: Number of points, odd and at least 5.
      reach: a, in units of the offsets.
      sharpness: c, how closely points are packed around 0.

    Raises:
      ValueError: `bins` even or below 5.

    References:
      Peng et al., D-FINE, ICLR 2025.
    """
    if bins < 5 or bins % 2 == 0:
        raise ValueError(f"d_fine_grid: expected an odd number of bins, at least 5, got {bins}")
    last = bins - 1
    steps = np.abs(np.arange(bins) - last / 2)
    points = np.sign(np.arange(bins) - last / 2) * ((reach * sharpness + 1) ** (2 * steps / (last - 2)) - 1)
    points[[0, -1]] = -2 * reach * sharpness, 2 * reach * sharpness
    return GridPoints(tuple((points / sharpness).tolist()))
