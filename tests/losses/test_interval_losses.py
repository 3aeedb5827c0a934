import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax.test_util import check_grads

from tests.reference import losses_by_hand as reference
from ugs_jax import losses
from ugs_jax.labels import interval_grid, two_hot

GRID = interval_grid(2, 1, 10)
BINS = len(GRID)

logits_arrays = hnp.arrays(np.float32, (5, BINS), elements=st.floats(-60, 60, width=32))
targets_arrays = hnp.arrays(np.float32, 5, elements=st.floats(-3, 3, width=32))


@given(logits_arrays, targets_arrays)
def test_values_equal_those_of_a_plain_loop(logits, targets):
    rows = list(zip(logits.tolist(), targets.tolist(), strict=True))
    points = GRID.tolist()
    z, t = jnp.array(logits), jnp.array(targets)
    tolerance = {"rtol": 1e-5, "atol": 2e-5}  # logits of 60 carry 4e-6, a label 1e-6 times a loss of 120
    np.testing.assert_allclose(
        losses.interval_cross_entropy(z, t, GRID),
        [reference.interval_cross_entropy(a, b, points) for a, b in rows],
        rtol=1e-5,
        atol=2e-4,
    )
    np.testing.assert_allclose(losses.entropy(z), [reference.entropy(a) for a, _ in rows], **tolerance)
    np.testing.assert_allclose(
        losses.entropy_gap(z, t, GRID), [reference.entropy_gap(a, b, points) for a, b in rows], **tolerance
    )


@given(logits_arrays, targets_arrays)
def test_gradient_of_the_cross_entropy_is_the_difference_of_distributions_and_at_most_1(logits, targets):
    z, t = jnp.array(logits), jnp.array(targets)
    gradient = jax.grad(lambda a: losses.interval_cross_entropy(a, t, GRID).sum())(z)
    assert np.all(np.abs(gradient) <= 1)
    np.testing.assert_allclose(gradient, jax.nn.softmax(z) - two_hot(t, GRID), atol=1e-6)


@given(logits_arrays)
def test_entropy_lies_between_0_and_log_bins(logits):
    z = jnp.array(logits)
    value, share = losses.entropy(z), losses.normalised_entropy(z)
    assert np.all((value >= 0) & (value <= np.log(BINS) * (1 + 1e-6)))
    assert np.all((share >= 0) & (share <= 1))


@given(logits_arrays, st.floats(-100, 100, width=32))
def test_entropy_ignores_a_shift_of_all_logits(logits, shift):
    z = jnp.array(logits)
    np.testing.assert_allclose(losses.entropy(z + np.float32(shift)), losses.entropy(z), atol=1e-3)  # 160 carries 1e-5


def test_entropy_of_equal_logits_is_log_bins_and_flat():
    value, gradient = jax.value_and_grad(losses.normalised_entropy)(jnp.full(BINS, 3.7))
    assert float(value) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(gradient, np.zeros(BINS), atol=1e-7)


def test_the_entropy_gradient_is_accurate_if_one_bin_has_almost_all_probability():
    logits = np.array([0.0, 14.0, 1.0, -2.0], np.float32)
    with jax.enable_x64(True):
        exact = jax.grad(losses.entropy)(jnp.array(logits, jnp.float64))
    got = jax.grad(losses.entropy)(jnp.array(logits))
    # The small probabilities' entries: a difference of nearly equal numbers would leave none of these digits.
    np.testing.assert_allclose(got[np.array([0, 2, 3])], exact[np.array([0, 2, 3])], rtol=1e-5)


def test_cross_entropy_is_least_at_the_label_where_the_gap_is_0_and_the_entropy_is_not():
    target = jnp.array(0.3)
    logits = jnp.log(jnp.maximum(two_hot(target, GRID), 1e-30))
    np.testing.assert_allclose(jax.grad(losses.interval_cross_entropy)(logits, target, GRID), np.zeros(BINS), atol=1e-6)
    assert float(losses.entropy_gap(logits, target, GRID)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.entropy(logits)) > 0.5


def test_targets_outside_the_grid_count_as_its_ends():
    logits = jnp.arange(BINS, dtype=jnp.float32)
    inside = losses.interval_cross_entropy(jnp.stack([logits] * 2), jnp.array([-2.0, 2.0]), GRID)
    outside = losses.interval_cross_entropy(jnp.stack([logits] * 2), jnp.array([-jnp.inf, 1e30]), GRID)
    np.testing.assert_array_equal(outside, inside)


WILD = {
    "one bin takes all": [0.0] * 10 + [1e5],
    "float16 range": [-65504.0, 65504.0] + [0.0] * 9,
    "minus infinity": [-np.inf] * 5 + [0.0] * 6,
    "all minus infinity": [-np.inf] * 11,
    "two infinities": [np.inf, np.inf] + [0.0] * 9,
    "float32 range": [-3.4e38, 3.4e38] + [0.0] * 9,
    "equal": [1.0] * 11,
}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("target", [0.0, 0.3, -2.0, 2.0, 50.0])
def test_values_and_gradients_are_finite_for_extreme_logits(dtype, target):
    with np.errstate(over="ignore"):
        logits = jnp.array(np.array(list(WILD.values())), dtype)
    targets = jnp.full(len(WILD), target, dtype)
    for loss in (
        lambda z, t: losses.interval_cross_entropy(z, t, GRID),
        lambda z, t: losses.entropy_gap(z, t, GRID),
        lambda z, _: losses.entropy(z),
        lambda z, _: losses.normalised_entropy(z),
    ):
        value, pullback = jax.vjp(lambda z, loss=loss: loss(z, targets), logits)
        assert value.dtype == dtype
        for array in (value, *pullback(jnp.ones_like(value))):
            assert np.all(np.isfinite(np.asarray(array.astype(jnp.float32))))


def test_gradients_are_right_to_second_order():
    with jax.enable_x64(True):
        logits, target = jnp.array(np.random.default_rng(0).normal(0, 2, BINS)), jnp.array(0.31)

        def every_loss(z):
            cross = losses.interval_cross_entropy(z, target, GRID)
            return jnp.stack([cross, losses.entropy_gap(z, target, GRID), losses.entropy(z)])

        check_grads(jax.jit(every_loss), (logits,), order=2, modes=["rev"])
        check_grads(jax.jit(losses.normalised_entropy), (jnp.zeros(BINS),), order=2, modes=["rev"])  # its maximum


def test_a_head_with_the_wrong_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match="got 10 scores for 11 points"):
        losses.interval_cross_entropy(jnp.zeros((3, 10)), jnp.zeros(3), GRID)
    with pytest.raises(ValueError, match="got 10 scores for 11 points"):
        losses.entropy_gap(jnp.zeros((3, 10)), jnp.zeros(3), GRID)


def test_one_bin_has_no_normalised_entropy():
    with pytest.raises(ValueError, match="at least 2 bins"):
        losses.normalised_entropy(jnp.zeros((3, 1)))


def test_distribution_focal_is_the_published_formula():
    rng = np.random.default_rng(1)
    logits, distance = rng.normal(0, 2, (30, 17)).astype(np.float32), rng.uniform(0, 15.9, 30).astype(np.float32)
    want = [reference.distribution_focal(z, y) for z, y in zip(logits.tolist(), distance.tolist(), strict=True)]
    np.testing.assert_allclose(losses.distribution_focal(jnp.array(logits), jnp.array(distance)), want, rtol=1e-5)


def test_distribution_focal_takes_distances_on_and_beyond_the_last_bin():
    logits = jnp.arange(16, dtype=jnp.float32)
    value = losses.distribution_focal(jnp.stack([logits] * 3), jnp.array([15.0, 99.0, -1.0]))
    log_p = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(value, -jnp.stack([log_p[15], log_p[15], log_p[0]]), rtol=1e-6)


def test_distribution_focal_is_right_to_second_order():
    with jax.enable_x64(True):
        logits = jnp.array(np.random.default_rng(0).normal(0, 1, 16))
        check_grads(jax.jit(lambda z: losses.distribution_focal(z, jnp.array(3.4))), (logits,), order=2, modes=["rev"])
