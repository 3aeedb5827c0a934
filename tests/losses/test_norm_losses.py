import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.reference import losses_by_hand as reference
from ugs_jax import losses

PAIRS = [
    (losses.l1, reference.l1),
    (losses.l2, reference.l2),
    (losses.smooth_l1, reference.smooth_l1),
    (functools.partial(losses.smooth_l1, beta=0.11), functools.partial(reference.smooth_l1, beta=0.11)),
]
NAMES = ["l1", "l2", "smooth_l1", "smooth_l1 with beta 0.11"]


@pytest.mark.parametrize(("loss", "by_hand"), PAIRS, ids=NAMES)
def test_values_equal_those_of_a_plain_loop(loss, by_hand):
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 1, (50, 4)).astype(np.float32), rng.normal(0, 1, (50, 4)).astype(np.float32)
    want = [by_hand(a, b) for a, b in zip(x.tolist(), t.tolist(), strict=True)]
    np.testing.assert_allclose(loss(jnp.array(x), jnp.array(t)), want, rtol=1e-6)  # four float32 terms


@pytest.mark.parametrize(("loss", "by_hand"), PAIRS, ids=NAMES)
def test_gradients_are_right_to_second_order(loss, by_hand):
    with jax.enable_x64(True):
        x, t = jnp.array([0.5, -3.0, 0.02, 1.7]), jnp.array([0.1, 1.0, 0.0, -4.0])
        check_grads(jax.jit(loss), (x, t), order=2, modes=["rev"])


@pytest.mark.parametrize(("loss", "by_hand"), PAIRS, ids=NAMES)
def test_without_a_difference_loss_and_gradient_are_zero(loss, by_hand):
    value, gradient = jax.value_and_grad(loss)(jnp.ones(4), jnp.ones(4))
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(4))


def test_smooth_l1_has_one_slope_on_both_sides_of_beta():
    slope = jax.vmap(jax.grad(lambda x: losses.smooth_l1(x[None], jnp.zeros(1), beta=0.5)))
    np.testing.assert_allclose(slope(jnp.array([0.4999999, 0.5, 0.5000001])), np.ones(3), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize(("loss", "by_hand"), PAIRS, ids=NAMES)
def test_half_precision_saturates_instead_of_overflowing(loss, by_hand, dtype):
    x, t = jnp.full(4, 1e4, dtype), jnp.full(4, -1e4, dtype)
    value, gradient = jax.value_and_grad(loss)(x, t)
    assert value.dtype == gradient.dtype == dtype
    assert np.isfinite(np.float32(value))
    assert np.all(np.isfinite(gradient.astype(jnp.float32)))


def test_smooth_l1_refuses_a_beta_that_is_not_positive():
    with pytest.raises(ValueError, match="beta: expected a number > 0, got 0"):
        losses.smooth_l1(jnp.ones(4), jnp.ones(4), beta=0)
