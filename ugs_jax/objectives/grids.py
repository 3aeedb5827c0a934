"""Label grids: defined by a rule, given point by point, or fitted to the targets of a data set."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Real

from ugs_jax.labels import checked_grid, fit_interval_grid, interval_grid, quantile_grid, uniform_grid


@dataclass(frozen=True)
class Grid:
    """Label positions of one kind of box parameter: an interval grid, or a uniform grid if `beta` is 0.

    Attributes:
      alpha: Half of the range; the grid goes from −`alpha` to `alpha`.
      beta: Parameter β of `labels.interval_grid`; 0 gives a uniform grid.
      n: Number of intervals; the grid has n+1 points.
    """

    alpha: float
    beta: float = 0.0
    n: int = 10

    def points(self) -> np.ndarray:
        """Return the n+1 positions.

        Raises:
          ValueError: A setting is out of range.
        """
        return interval_grid(self.alpha, self.beta, self.n) if self.beta else uniform_grid(self.alpha, self.n)


@dataclass(frozen=True)
class GridPoints:
    """Label positions given one by one.

    Attributes:
      positions: At least two positions, strictly increasing.
    """

    positions: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of intervals."""
        return len(self.positions) - 1

    def points(self) -> np.ndarray:
        """Return the n+1 positions.

        Raises:
          ValueError: There are fewer than two positions, or they are not increasing.
        """
        return checked_grid(np.asarray(self.positions, np.float64))


@dataclass(frozen=True)
class FittedGrid:
    """Label positions fitted to the targets of the training set. The fit is made when a run begins, and saved with it.

    Attributes:
      n: Number of intervals.
      rule: Rule of the fit. `quantiles`: all intervals contain about the same number of targets
        (`labels.quantile_grid`). `interval`: the IN grid, α and β, that comes nearest to
        that (`labels.fit_interval_grid`).
      coverage: Share of the targets inside the range. Other targets are clipped to its ends.
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
        """Return the grid fitted to a sample of targets.

        Raises:
          ValueError: The targets do not define a grid.
        """
        if self.rule == "interval":
            alpha, beta = fit_interval_grid(offsets, self.n, coverage=self.coverage)
            return Grid(alpha, beta, self.n)
        return GridPoints(tuple(quantile_grid(offsets, self.n, coverage=self.coverage).tolist()))

    def points(self) -> np.ndarray:
        """Raise ValueError, because positions are unknown before `fit`."""
        raise ValueError(
            f"{self}: expected a grid that is fitted; training fits it to its data set; elsewhere call "
            "`fit` of the objective with a sample of targets"
        )


AnyGrid = Grid | GridPoints | FittedGrid
"""Any of the three kinds of label grid."""


def d_fine_grid(bins: int = 33, *, reach: float = 0.5, sharpness: float = 4.0) -> GridPoints:
    """Return D-FINE's grid: points packed geometrically around 0, and two distant points at the ends.

    W(i) = sign(i − R/2) · ((a·c + 1)^{2·abs(i − R/2)/(R − 2)} − 1) for 0 < i < R = bins − 1, and W(0) = −2ac,
    W(R) = 2ac; all points are divided by c, so that the distant points are at ±2a.

    Args:
      bins: Number of points, odd and at least 5.
      reach: Parameter a, in units of the offsets.
      sharpness: Parameter c; a larger value packs the points more closely around 0.

    Raises:
      ValueError: `bins` is even or below 5.

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
