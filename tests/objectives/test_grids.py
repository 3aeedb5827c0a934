"""Settings of localization objectives: the defaults, D-FINE's grid, and those that are refused."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugs_jax import losses
from ugs_jax.boxes import Anchors
from ugs_jax.labels import expectation, quantile_grid
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
    SideUGS,
    Uncertainty,
    d_fine_grid,
)

FIXTURE = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared"))
FIXTURE = FIXTURE / "fixtures" / "anchor_free" / "dfine_fgl.json"
ANCHORS = Anchors.from_boxes(jnp.array([[17.0, 7.5, 23.0, 16.5]] * 3))


def test_the_default_interval_has_the_settings_of_the_paper_but_matches_entropies():
    objective = UGS()
    assert objective.center == Grid(alpha=2.0, beta=1.0, n=10)
    assert objective.um == Uncertainty("match", 0.5)
    assert objective.refinement == Refinement(radius=0.5, weight=0.1)


def test_the_default_grid_of_distances_is_dense_at_small_objects_and_has_the_points_of_published_heads():
    points = SideUGS().grid.points()
    assert (points[0], points[-1]) == (-1, 16)
    assert set(range(16)) <= set(points)
    steps = np.diff(points[1:])
    assert steps.tolist() == [0.25] * 4 + [0.5] * 4 + [1.0] * 13


def test_a_grid_of_distances_is_fitted_to_all_four_of_them():
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 64, (500, 2))
    boxes = np.concatenate([centers - rng.exponential(6, (500, 2)), centers + rng.exponential(3, (500, 2))], axis=1)
    anchors = Anchors(*(jnp.asarray(part, jnp.float32) for part in (centers, centers + 1, np.full((500, 2), 8.0))))
    fitted = SideUGS(grid=FittedGrid(10, coverage=1.0)).fit(anchors, boxes.astype(np.float32))
    assert not fitted.to_be_fitted
    sides = np.concatenate([centers - boxes[:, :2], boxes[:, 2:] - centers], axis=1) / 8
    np.testing.assert_allclose(fitted.grid.points(), quantile_grid(sides, 10, coverage=1.0), atol=1e-5)
    assert SideUGS().fit(anchors, boxes) == SideUGS()


def test_centre_offsets_in_sides_of_the_anchor_are_fitted_in_that_unit():
    boxes = np.random.default_rng(0).uniform((0, 0, 20, 20), (8, 8, 28, 28), (300, 4))
    sizes = np.full((300, 2), 40.0)
    anchors = Anchors(*(jnp.asarray(part, jnp.float32) for part in (np.zeros((300, 2)), sizes, sizes / 5)))
    fitted = UGS(FittedGrid(coverage=1.0), FittedGrid(coverage=1.0), center_unit="anchor").fit(anchors, boxes)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / 40
    np.testing.assert_allclose(fitted.center.points()[[0, -1]], [centers.min(), centers.max()], atol=1e-5)


@pytest.mark.parametrize(("bins", "reach", "sharpness"), [(33, 0.5, 4.0), (17, 1.0, 8.0), (5, 2.0, 0.5)])
def test_d_fines_grid_is_that_of_its_formula(bins, reach, sharpness):
    last, want = bins - 1, []
    for i in range(bins):
        power = (reach * sharpness + 1) ** (2 * abs(i - last / 2) / (last - 2)) - 1
        want.append(power if i > last / 2 else -power)
    want[0], want[-1] = -2 * reach * sharpness, 2 * reach * sharpness
    points = d_fine_grid(bins, reach=reach, sharpness=sharpness).points()
    np.testing.assert_allclose(points, np.array(want) / sharpness, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(points[[0, 1, -2, -1]], [-2 * reach, -reach, reach, 2 * reach], rtol=1e-12)
    np.testing.assert_array_equal(points, -points[::-1])


@pytest.mark.skipif(not FIXTURE.is_file(), reason=f"no fixture at {FIXTURE}")
def test_d_fines_grid_and_offsets_are_those_of_its_public_code():
    published = json.loads(FIXTURE.read_text())
    grids = {}
    for each in published["W"]:
        bins, sharpness = each["reg_max"] + 1, each["reg_scale"]
        points = d_fine_grid(bins, reach=each["a"], sharpness=sharpness).points()
        np.testing.assert_allclose(sharpness * points, each["W"], rtol=1e-4, atol=1e-6)  # float32 powers
        grids[bins, each["a"], sharpness] = points
    for case in published["cases"]:
        points = grids[case["reg_max"] + 1, case["a"], case["reg_scale"]]
        offsets = expectation(jax.nn.softmax(jnp.array(case["logits"])), points)
        np.testing.assert_allclose(case["reg_scale"] * offsets.ravel(), case["expected_offset"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: BoxRegression(losses.l1, space="sides"),
            "BoxRegression.space: expected 'boxes' or 'offsets', got 'sides'",
        ),
        (lambda: DFL(bins=1), "DFL.bins: expected at least 2 support points, got 1"),
        (lambda: Uncertainty("gap"), "Uncertainty.mode: expected 'entropy' or 'match', got 'gap'"),
        (lambda: UGS(weight=-0.5), "expected weights >= 0, one of them above 0, got weight=-0.5, box_weight=0.9"),
        (lambda: UGS(weight=0.0, box_weight=0.0), "one of them above 0, got weight=0.0, box_weight=0.0"),
        (lambda: UGS(weight=float("nan")), "expected weights >= 0, one of them above 0, got weight=nan"),
        (lambda: SideUGS(weight=-1.0), "SideUGS: expected weights >= 0, one of them above 0, got weight=-1.0"),
        (lambda: SideUGS(grid=GridPoints((0.0, 2.0, 1.0))), "before point 2 at 1; sort it"),
        (lambda: SideUGS(grid=FittedGrid()).decode(jnp.zeros((3, 44)), ANCHORS), "a grid that is fitted"),
        (lambda: SideUGS().decode(jnp.zeros((3, 64)), ANCHORS), r"expected 4 × 23 channels .* got shape \(3, 64\)"),
        (lambda: d_fine_grid(32), "d_fine_grid: expected an odd number of bins, at least 5, got 32"),
        (lambda: d_fine_grid(3), "d_fine_grid: expected an odd number of bins, at least 5, got 3"),
        (lambda: SecondStage(hidden=0), "SecondStage.hidden: expected at least 1, got 0"),
        (lambda: SecondStage(share=0.0), r"SecondStage.share: expected a number in \(0, 1\], got 0.0"),
        (lambda: SecondStage(share=1.5), r"SecondStage.share: expected a number in \(0, 1\], got 1.5"),
        (lambda: Quality(hidden=0), "Quality.hidden: expected at least 1, got 0"),
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
@pytest.mark.usefixtures("unchecked")
def test_settings_and_shapes_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
