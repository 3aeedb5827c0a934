"""Settings of UGS: grids of labels, uncertainty minimisation, refinement."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ugs_jax.labels import interval_grid, uniform_grid


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
