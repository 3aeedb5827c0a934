from statistics import NormalDist

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from tests.flags import QUICKLY
from tests.reference import labels_by_hand as reference
from ugs_jax import labels

GRIDS = [
    labels.uniform_grid(2, 10),
    labels.interval_grid(2, 1, 10),
    labels.interval_grid(5, 1, 5),
    labels.interval_grid(0.5, 12, 7),
    np.array([-1.0, 0.25, 3.0, 3.5]),
]

every_grid = pytest.mark.parametrize("grid", GRIDS, ids=["uniform", "rpn", "r-cnn", "dense", "uneven"])

deviation = jax.jit(labels.deviation, compiler_options=QUICKLY)

alphas, betas, counts = st.floats(0.1, 20), st.floats(0, 3), st.integers(1, 30)


@given(alphas, st.floats(1e-3, 3), counts)
def test_interval_grid_is_the_published_formula(alpha, beta, n):
    # (e^{βy} − 1) as printed loses 1e-16/βα where β is small, hence β ≥ 1e-3 here and 1e-9.
    np.testing.assert_allclose(labels.interval_grid(alpha, beta, n), reference.interval_grid(alpha, beta, n), atol=1e-9)


@given(alphas, betas, counts)
def test_grids_run_symmetrically_from_minus_alpha_to_alpha_and_increase(alpha, beta, n):
    grid = labels.interval_grid(alpha, beta, n)
    assert len(grid) == n + 1
    assert grid[0] == pytest.approx(-alpha)
    assert grid[-1] == pytest.approx(alpha)
    np.testing.assert_array_equal(grid, -grid[::-1])
    assert np.all(np.diff(grid.astype(np.float32)) > 0)


@pytest.mark.parametrize("beta", [0.0, 1e-300, 1e-14, 1e-9])
def test_small_beta_tends_to_the_uniform_grid(beta):
    np.testing.assert_allclose(labels.interval_grid(2, beta, 9), labels.uniform_grid(2, 9), atol=1e-8)
    np.testing.assert_allclose(labels.uniform_grid(2, 9), np.linspace(-2, 2, 10), atol=1e-15)


def test_large_alpha_times_beta_does_not_overflow():
    np.testing.assert_array_equal(labels.interval_grid(1000, 1, 2), [-1000, 0, 1000])


@given(betas, counts)
def test_more_packing_brings_points_closer_to_0(beta, n):
    near, far = np.abs(labels.interval_grid(2, beta + 0.5, n)), np.abs(labels.interval_grid(2, beta, n))
    assert np.all(near <= far + 1e-12)


@every_grid
@given(hnp.arrays(np.float32, 6, elements=st.floats(-5, 5, width=32)))
def test_expectation_of_a_two_hot_label_is_the_clipped_offset(grid, offsets):
    label = labels.two_hot(jnp.array(offsets), grid)
    # Two float32 products of at most 5.
    np.testing.assert_allclose(labels.expectation(label, grid), np.clip(offsets, grid[0], grid[-1]), atol=2e-6)


@every_grid
@given(hnp.arrays(np.float32, 6, elements=st.floats(-5, 5, width=32)))
def test_two_hot_labels_equal_those_of_a_plain_loop(grid, offsets):
    label = np.asarray(labels.two_hot(jnp.array(offsets), grid))
    want = [reference.two_hot(t, grid.tolist()) for t in offsets.tolist()]
    narrowest = np.diff(grid).min()
    np.testing.assert_allclose(label, want, atol=2e-6 / narrowest)  # float32 points up to 5 carry 5e-7
    assert np.all(label >= 0)
    assert np.all((label > 0).sum(-1) <= 2)
    np.testing.assert_allclose(label.sum(-1), 1.0, atol=1e-6)


@every_grid
def test_an_offset_on_a_grid_point_has_a_one_hot_label(grid):
    points = jnp.array(grid, jnp.float32)
    np.testing.assert_array_equal(labels.two_hot(points, grid), np.eye(len(grid)))


@every_grid
def test_the_deviation_of_a_label_is_a_small_part_of_its_interval(grid):
    offsets = np.linspace(grid[0], grid[-1], 1001)
    interval = np.diff(grid)[np.clip(np.searchsorted(grid, offsets, side="right") - 1, 0, len(grid) - 2)]
    share = np.asarray(deviation(labels.two_hot(jnp.asarray(offsets, jnp.float32), grid), grid)) / interval
    assert share.max() < 0.3
    assert share.mean() < 0.14


@pytest.mark.parametrize(
    ("grid", "sigma", "tolerance"),
    [
        (labels.interval_grid(2, 1, 10), 0.1, 0.02),
        (labels.interval_grid(2, 1, 10), 0.3, 0.02),
        (labels.uniform_grid(4, 8), 0.3, 0.03),
        (labels.uniform_grid(4, 8), 0.7, 0.03),
        (np.array([-4.0, -2.5, -1.2, -0.5, 0.0, 0.3, 0.8, 1.6, 2.1, 4.0]), 0.3, 0.03),
    ],
)
def test_the_deviation_of_mean_labels_is_that_of_the_offsets(grid, sigma, tolerance):
    standard = np.array([NormalDist().inv_cdf((k + 0.5) / 400) for k in range(400)])
    centers = np.linspace(-1, 1, 41)
    mean_labels = np.array(
        [np.mean([reference.two_hot(center + sigma * z, grid) for z in standard], axis=0) for center in centers]
    )
    found = np.asarray(deviation(jnp.asarray(mean_labels, jnp.float32), grid))
    assert found.mean() == pytest.approx(sigma, rel=tolerance)
    np.testing.assert_allclose(found, sigma, rtol=0.25)
    raw = np.sqrt(np.asarray(labels.variance(jnp.asarray(mean_labels, jnp.float32), grid)))
    assert np.all(raw > found)
    assert raw.mean() > (1 + 3 * tolerance) * sigma


@every_grid
@given(st.integers(0, 2**31), st.floats(0.1, 8))
def test_the_deviation_equals_that_of_a_plain_loop(grid, seed, sharpness):
    logits = sharpness * np.random.default_rng(seed).normal(size=(4, len(grid)))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    want = [reference.deviation(row, grid) for row in p]
    np.testing.assert_allclose(deviation(jnp.asarray(p, jnp.float32), grid), want, rtol=1e-3, atol=3e-3 * np.ptp(grid))


@every_grid
@given(st.integers(0, 2**31), st.floats(0.1, 8), st.floats(0.1, 10))
def test_the_deviation_is_at_most_the_root_of_the_variance_and_has_the_unit_of_the_grid(grid, seed, sharpness, scale):
    logits = sharpness * np.random.default_rng(seed).normal(size=(4, len(grid))).astype(np.float32)
    p = jax.nn.softmax(logits)
    found = np.asarray(deviation(p, grid))
    assert np.all(found >= 0)
    assert np.all(found <= 1.001 * np.sqrt(np.asarray(labels.variance(p, grid))) + 1e-6)
    np.testing.assert_allclose(deviation(p, scale * grid), scale * found, rtol=1e-2, atol=3e-3 * scale * np.ptp(grid))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_labels_have_the_dtype_of_the_offsets_and_finite_gradients(dtype):
    offsets = jnp.array([-jnp.inf, -2.0, 0.0, 0.3, 2.0, 6e4, jnp.inf], dtype)
    value, pullback = jax.vjp(lambda t: labels.two_hot(t, GRIDS[1]), offsets)
    assert value.dtype == dtype
    assert np.all(np.isfinite(np.asarray(value.astype(jnp.float32))))
    assert np.all(np.isfinite(np.asarray(pullback(jnp.ones_like(value))[0].astype(jnp.float32))))


def test_double_precision_offsets_round_trip_to_double_precision():
    with jax.enable_x64(True):
        offsets = jnp.linspace(-2, 2, 101, dtype=jnp.float64)
        got = labels.expectation(labels.two_hot(offsets, GRIDS[1]), GRIDS[1])
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, offsets, atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.7, 2.5])
def test_fit_recovers_the_grid_that_the_targets_follow(beta):
    share = np.linspace(-1, 1, 40001)
    packed = np.abs(share) if beta == 0 else np.expm1(2 * beta * np.abs(share)) / np.expm1(2 * beta)
    alpha, fitted = labels.fit_interval_grid(2 * np.sign(share) * packed, 12, coverage=1.0)
    assert alpha == pytest.approx(2)
    assert fitted == pytest.approx(beta, abs=0.01)  # the search steps by 0.01 in αβ


@pytest.mark.parametrize("n", [1, 2])
def test_fit_without_free_points_leaves_the_grid_uniform(n):
    alpha, beta = labels.fit_interval_grid(np.random.default_rng(0).normal(size=1000), n)
    assert beta == 0.0
    assert 2.5 < alpha < 4.5


def test_a_fitted_interval_grid_covers_the_requested_share_of_targets():
    sample = np.random.default_rng(0).standard_t(2, 5000)
    alpha, beta = labels.fit_interval_grid(sample, 10, coverage=0.95)
    assert np.mean(np.abs(sample) <= alpha) == pytest.approx(0.95, abs=1e-3)
    assert beta > 0  # heavy tails: most targets near 0
    assert labels.fit_interval_grid(jnp.array(sample), 10, coverage=0.95) == pytest.approx((alpha, beta), rel=1e-3)


def test_quantile_grid_gives_each_interval_its_share():
    sample = np.random.default_rng(0).exponential(1.0, 20000)
    grid = labels.quantile_grid(sample, 8, coverage=1.0, uniform_share=1e-9)
    counts = np.histogram(sample, grid)[0]
    np.testing.assert_allclose(counts, 20000 / 8, atol=2)


def test_quantile_grid_keeps_neighbours_apart_when_targets_repeat():
    sample = np.concatenate([np.zeros(900), np.linspace(-1, 1, 100)])
    grid = labels.quantile_grid(sample, 10, coverage=1.0)
    assert np.diff(grid).min() >= 0.1 * 2 / 10 - 1e-12
    assert (grid[0], grid[-1]) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: labels.interval_grid(0, 1, 10), "alpha: expected a finite number > 0, got 0"),
        (lambda: labels.interval_grid(float("nan"), 1, 10), "alpha: expected a finite number > 0, got nan"),
        (lambda: labels.interval_grid(2, -1, 10), "beta: expected a finite number >= 0, got -1"),
        (lambda: labels.interval_grid(2, 1, 0), "n: expected at least 1 interval, got 0"),
        (lambda: labels.interval_grid(2, 1000, 10), "strictly increase in float32, got point 1 at .* lower beta=1000"),
        (lambda: labels.uniform_grid(-2, 10), "alpha: expected"),
        (lambda: labels.two_hot(jnp.zeros(3), np.array([0.0, 1.0, 1.0])), "strictly increase.*drop duplicates"),
        (lambda: labels.two_hot(jnp.zeros(3), np.array([1.0])), "at least 2 points, got 1"),
        (lambda: labels.expectation(jnp.ones((2, 1)), np.array([0.0, 1.0])), "got 1 scores for 2 points"),
        (lambda: labels.fit_interval_grid(np.zeros(0), 10), "expected finite targets, got 0"),
        (lambda: labels.fit_interval_grid(np.array([1.0, np.nan]), 10), "got 2 with 1 not finite"),
        (lambda: labels.fit_interval_grid(np.zeros(9), 10), "of 9 targets are 0.*set alpha by hand"),
        (lambda: labels.fit_interval_grid(np.ones(9), 0), "n: expected at least 1"),
        (lambda: labels.fit_interval_grid(np.ones(9), 5, coverage=1.1), r"coverage: expected a share in \(0, 1\]"),
        (lambda: labels.quantile_grid(np.ones(9), 5), "the targets hardly differ"),
        (lambda: labels.quantile_grid(np.arange(9.0), 5, uniform_share=0), "uniform_share: expected"),
    ],
)
def test_bad_arguments_are_refused_with_the_fix(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
