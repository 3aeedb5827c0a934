import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.reference import losses_by_hand as reference
from ugs_jax import losses

Z = np.random.default_rng(0).uniform(-12, 12, 40).astype(np.float32)


def test_cross_entropy_equals_that_of_a_plain_loop_for_soft_targets():
    t = np.random.default_rng(1).uniform(0, 1, 40).astype(np.float32)
    want = [reference.sigmoid_cross_entropy(a, b) for a, b in zip(Z.tolist(), t.tolist(), strict=True)]
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(jnp.array(Z), jnp.array(t)), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.25, 0.6])
def test_focal_loss_equals_that_of_a_plain_loop_for_hard_targets(alpha, gamma):
    t = (np.arange(40) % 2).astype(np.float32)
    want = [reference.sigmoid_focal(a, b, alpha, gamma) for a, b in zip(Z.tolist(), t.tolist(), strict=True)]
    got = losses.sigmoid_focal(jnp.array(Z), jnp.array(t), alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("loss", [losses.sigmoid_cross_entropy, losses.sigmoid_focal])
def test_gradients_are_right_to_second_order(loss):
    with jax.enable_x64(True):
        t = jnp.array([0.0, 1.0, 0.3, 1.0])
        check_grads(jax.jit(lambda z: loss(z, t)), (jnp.array([-3.0, 2.0, 0.4, -7.0]),), order=2, modes=["rev"])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 1.0, 2.0])
def test_values_and_gradients_are_finite_for_any_logit(dtype, gamma):
    def loss(z, t):
        return losses.sigmoid_cross_entropy(z, t) if gamma is None else losses.sigmoid_focal(z, t, gamma=gamma)

    logits = jnp.repeat(jnp.array([-jnp.inf, -6e4, -100.0, 0.0, 100.0, 6e4, jnp.inf], dtype), 3)
    targets = jnp.tile(jnp.array([0.0, 0.5, 1.0], dtype), 7)
    value, pullback = jax.vjp(loss, logits, targets)
    assert value.dtype == dtype
    assert np.all(np.isfinite(np.asarray(value.astype(jnp.float32))))
    assert np.all(np.isfinite(np.asarray(pullback(jnp.ones_like(value))[0].astype(jnp.float32))))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"alpha: expected a weight in \[0, 1\], got 2"):
        losses.sigmoid_focal(jnp.zeros(2), jnp.zeros(2), alpha=2)
    with pytest.raises(ValueError, match="gamma: expected an exponent >= 0, got -1"):
        losses.sigmoid_focal(jnp.zeros(2), jnp.zeros(2), gamma=-1)
