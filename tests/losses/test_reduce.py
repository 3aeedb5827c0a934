import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ugs_jax import losses

VALUES = np.random.default_rng(0).normal(3, 2, (4, 5)).astype(np.float32)
MASK = np.random.default_rng(1).uniform(size=(4, 5)) < 0.6


def test_reductions_are_those_of_the_selected_values():
    selected = VALUES[MASK].astype(np.float64)
    v, m = jnp.array(VALUES), jnp.array(MASK)
    assert float(losses.masked_sum(v, m)) == pytest.approx(selected.sum(), rel=1e-6)
    assert float(losses.masked_count(v, m)) == len(selected)
    assert float(losses.masked_mean(v, m)) == pytest.approx(selected.mean(), rel=1e-6)
    assert float(losses.masked_variance(v, m)) == pytest.approx(selected.var(), rel=1e-5)


def test_axes_are_reduced_one_by_one():
    v, m = jnp.array(VALUES), jnp.array(MASK)
    for row in range(4):
        selected = VALUES[row][MASK[row]].astype(np.float64)
        assert float(losses.masked_mean(v, m, axis=1)[row]) == pytest.approx(selected.mean(), rel=1e-6)
        assert float(losses.masked_variance(v, m, axis=-1)[row]) == pytest.approx(selected.var(), rel=1e-5, abs=1e-7)


REDUCTIONS = [losses.masked_sum, losses.masked_mean, losses.masked_variance]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing_selected_gives_0_with_zero_gradient(reduction):
    value, gradient = jax.value_and_grad(reduction)(jnp.full(3, jnp.nan), jnp.zeros(3, bool))
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(3))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_masked_values_do_not_affect_value_or_gradient(reduction):
    mask = jnp.array([True, False, True, False])
    value, gradient = jax.value_and_grad(reduction)(jnp.array([1.0, jnp.nan, 4.0, jnp.inf]), mask)
    want, clean = jax.value_and_grad(reduction)(jnp.array([1.0, 0.0, 4.0, 0.0]), mask)
    assert float(value) == float(want)
    np.testing.assert_array_equal(gradient, clean)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_are_right_to_second_order(reduction):
    with jax.enable_x64(True):
        mask = jnp.array(MASK)
        check_grads(
            jax.jit(lambda v: reduction(v, mask, axis=1)), (jnp.array(VALUES, jnp.float64),), order=2, modes=["rev"]
        )


def test_a_mask_may_broadcast_over_classes():
    mask = jnp.array([[True], [False], [True], [False]])
    assert float(losses.masked_mean(jnp.array(VALUES), mask)) == pytest.approx(VALUES[::2].mean(), rel=1e-6)
    assert float(losses.masked_variance(jnp.array(VALUES), mask)) == pytest.approx(VALUES[::2].var(), rel=1e-5)


def test_a_thousand_large_float16_losses_are_summed_in_float32():
    values, mask = jnp.full(1000, 6e4, jnp.float16), jnp.ones(1000, bool)
    assert losses.masked_sum(values, mask).dtype == jnp.float32
    assert float(losses.masked_sum(values, mask)) == 1000 * float(jnp.float16(6e4))
    assert float(losses.masked_mean(values, mask)) == float(jnp.float16(6e4))


def test_the_variance_of_values_far_from_0_is_accurate():
    values = jnp.array([1e4, 1e4 + 1, 1e4 + 2], jnp.float32)
    assert float(losses.masked_variance(values, jnp.ones(3, bool))) == pytest.approx(2 / 3, rel=1e-5)
