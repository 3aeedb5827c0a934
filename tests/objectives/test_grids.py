"""Settings of localization objectives: defaults, and settings that are refused."""

import jax.numpy as jnp
import jaxtyping
import pytest

from ugs_jax import losses
from ugs_jax.boxes import Anchors
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Refinement,
    Uncertainty,
)

ANCHORS = Anchors.from_boxes(jnp.array([[17.0, 7.5, 23.0, 16.5]] * 3))


def test_the_default_interval_has_the_settings_of_the_paper_but_matches_entropies():
    objective = UGS()
    assert objective.center == Grid(alpha=2.0, beta=1.0, n=10)
    assert objective.um == Uncertainty("match", 0.5)
    assert objective.refinement == Refinement(radius=0.5, weight=0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: BoxRegression(losses.l1, space="sides"),
            "BoxRegression.space: expected 'boxes' or 'offsets', got 'sides'",
        ),
        (lambda: DFL(bins=1), "DFL.bins: expected at least 2 support points, got 1"),
        (lambda: Uncertainty("gap"), "Uncertainty.mode: expected 'entropy' or 'match', got 'gap'"),
        (lambda: UGS(Grid(2.0, n=8), Grid(2.0, n=10)), "grids of the same n, got 8 and 10"),
        (lambda: UGS(Grid(2.0), Grid(-1.0)), "alpha: expected a finite number > 0, got -1"),
        (lambda: UGS(FittedGrid(8), Grid(2.0)), "grids of the same n, got 8 and 10"),
        (lambda: FittedGrid(rule="median"), "FittedGrid.rule: expected 'quantiles' or 'interval', got 'median'"),
        (lambda: FittedGrid(n=0), "FittedGrid.n: expected at least 1 interval, got 0"),
        (lambda: FittedGrid(coverage=1.5), r"FittedGrid.coverage: expected a share in \(0, 1\], got 1.5"),
        (lambda: UGS(GridPoints((0.0,)), Grid(2.0, n=0)), "expected at least 2 points, got 1"),
        (lambda: UGS(GridPoints((0.0, 1.0, 1.0)), Grid(1.0, n=2)), "before point 2 at 1; sort it"),
        (lambda: UGS(FittedGrid(), FittedGrid()).decode(jnp.zeros((3, 44)), ANCHORS), "a grid that is fitted"),
        (lambda: BoxRegression().decode(jnp.zeros((3, 5)), ANCHORS), r"expected 4 × 1 channels .* got shape \(3, 5\)"),
        (lambda: UGS().decode(jnp.zeros((3, 4)), ANCHORS), r"expected 4 × 11 channels .* got shape \(3, 4\)"),
    ],
)
def test_settings_and_shapes_that_do_not_fit_are_refused(build, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in use, where nothing checks annotations
    with pytest.raises(ValueError, match=message):
        build()
