"""The stabilizers only shorten updates, and keep their direction. Without an active limit, updates are unchanged."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stabilize.quadratics import SEEDS, SPECTRA, quadratic
from ugs_jax.stabilize import (
    limit_by_curvature,
    limit_by_uncertainty,
    stabilize_loss,
    ugs_stabilize,
)


def descend(make, settings, h, x, steps=8, *, counting=False, **extra):
    """Losses of gradient descent through `make(loss, *settings)`, in double precision; compiled once for each maker.

    With `counting` also the number of updates uphill after every step.
    """
    with jax.enable_x64(True):
        values, uphill = _losses(make, steps, *jax.tree.map(jnp.asarray, (settings, h, x, extra)))
        return (np.asarray(values), np.asarray(uphill)) if counting else np.asarray(values)


@functools.partial(jax.jit, static_argnames=("make", "steps"))
def _losses(make, steps, settings, h, x, extra):
    loss = lambda p: 0.5 * p @ h @ p  # noqa: E731
    tx = make(loss, *settings)

    def step(carry, _):
        x, state = carry
        value, g = jax.value_and_grad(loss)(x)
        updates, state = tx.update(g, state, x, grad=g, value=value, **extra)
        return (optax.apply_updates(x, updates), state), (value, optax.tree.get(state, "uphill"))

    (x, _), (values, uphill) = jax.lax.scan(step, (x, tx.init(x)), length=steps)
    return jnp.append(values, loss(x)), uphill


def never_rises(values):
    return np.all(np.diff(values) <= 1e-12 * values[0])


@given(SPECTRA, SEEDS, st.floats(0.01, 1000.0), st.floats(0.05, 1.95))
@settings(max_examples=40, deadline=None)
def test_with_exact_products_the_loss_never_rises(spectrum, seed, excess, fraction):
    h, x = quadratic(spectrum, seed)
    assert never_rises(descend(_with_products, (excess * 2 / spectrum.max(), fraction), h, x))


def _with_products(loss, rate, fraction):
    return optax.chain(optax.sgd(rate), ugs_stabilize(fraction, obj_fn=loss, every=1))


@given(SPECTRA, SEEDS, st.floats(0.01, 1000.0), st.floats(1.0, 100.0))
@settings(max_examples=40, deadline=None)
def test_with_an_upper_bound_the_loss_never_rises(spectrum, seed, excess, slack):
    h, x = quadratic(spectrum, seed)
    rate, bound = excess * 2 / spectrum.max(), slack * spectrum.max()
    assert never_rises(descend(_with_a_bound, (rate,), h, x, curvature=bound))


def _with_a_bound(loss, rate):
    del loss
    return optax.chain(optax.sgd(rate), ugs_stabilize())


@given(SPECTRA, SEEDS, st.floats(0.5, 0.99))
@settings(max_examples=30, deadline=None)
def test_with_momentum_only_steps_uphill_raise_the_loss_and_they_are_counted(spectrum, seed, momentum):
    h, x = quadratic(spectrum, seed)
    values, uphill = descend(_with_momentum, (1 / spectrum.max(), momentum), h, x, steps=20, counting=True)
    rises = np.diff(values) > 1e-12 * values[0]
    assert np.all(np.diff(uphill, prepend=0)[rises] == 1)


def _with_momentum(loss, rate, momentum):
    return optax.chain(optax.sgd(rate, momentum=momentum), ugs_stabilize(obj_fn=loss, every=1))


@given(SEEDS, st.floats(0.1, 1.9), st.floats(0.01, 100.0))
@settings(max_examples=40, deadline=None)
def test_below_the_limit_updates_are_bit_identical(seed, fraction, kappa):
    g = jnp.asarray(np.random.default_rng(seed).normal(size=7), jnp.float32)
    base = optax.sgd(0.99 * fraction / kappa)
    plain, _ = base.update(g, base.init(g))
    tx = optax.chain(base, ugs_stabilize(fraction))
    found, state = tx.update(g, tx.init(g), g, grad=g, curvature=kappa, uncertainty=0.3)
    np.testing.assert_array_equal(found, plain)
    assert int(optax.tree.get(state, "limited")) == 0


@given(SEEDS, st.floats(0.01, 100.0), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_the_loss_may_be_scaled_if_the_learning_rate_is_too(seed, lr, scale):
    g = jnp.asarray(np.random.default_rng(seed).normal(size=5), jnp.float32)

    def step(a):
        tx = optax.chain(optax.sgd(lr / a), ugs_stabilize())
        updates, _ = tx.update(a * g, tx.init(g), g, grad=a * g, curvature=2.0 * a)
        return updates

    np.testing.assert_allclose(step(scale), step(1.0), rtol=1e-5, atol=1e-7)


@given(SEEDS, st.floats(0.0, 50.0), st.floats(-50.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_updates_are_never_lengthened_nor_turned(seed, uncertainty, kappa):
    rng = np.random.default_rng(seed)
    g, u = (jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(2))
    tx = ugs_stabilize()
    state = tx.init(u)
    _, state = tx.update(u, state, uncertainty=1.0)
    found, state = tx.update(u, state, u, grad=g, curvature=kappa, uncertainty=uncertainty)
    scale = float(state.scale)
    assert 0 <= scale <= 1
    np.testing.assert_allclose(found, scale * u, rtol=1e-6)


def test_a_scalar_curvature_caps_the_learning_rate_of_gradient_descent():
    g = jnp.array([3.0, -4.0])
    tx = optax.chain(optax.sgd(10.0), limit_by_curvature(0.8))
    updates, state = tx.update(g, tx.init(g), g, grad=g, curvature=4.0)
    np.testing.assert_allclose(updates, -0.8 / 4 * g, rtol=1e-6)
    assert float(optax.tree.get(state, "scale")) == pytest.approx(0.8 / 40)
    assert float(optax.tree.get(state, "curvature")) == 4.0


def test_a_tree_of_curvature_is_the_diagonal_of_the_hessian():
    g, diagonal = (
        {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0])},
        {"a": jnp.array([2.0, 4.0]), "b": jnp.array([6.0])},
    )
    tx = optax.chain(optax.sgd(1.0), limit_by_curvature())
    updates, _ = tx.update(g, tx.init(g), g, grad=g, curvature=diagonal)
    bend = 2 * 1 + 4 * 4 + 6 * 9
    np.testing.assert_allclose(updates["a"], -g["a"] * 14 / bend, rtol=1e-6)


def test_products_are_computed_every_few_updates_and_kept_in_between():
    loss = lambda p: jnp.sum(p**4)  # noqa: E731
    tx = limit_by_curvature(obj_fn=loss, every=3)
    x = jnp.array([1.0])
    state, seen = tx.init(x), []
    for i in range(5):
        _, state = tx.update(-x, state, x + i, grad=x)
        seen.append(float(state.curvature))
    np.testing.assert_allclose(seen, [12 * 1, 12 * 1, 12 * 1, 12 * 16, 12 * 16], rtol=1e-6)


def test_value_fn_has_priority_over_obj_fn_and_curvature_over_both():
    x = jnp.array([1.0])
    tx = limit_by_curvature(obj_fn=lambda p: jnp.sum(p**2), every=1)
    _, state = tx.update(-x, tx.init(x), x, grad=x, value_fn=lambda p: 2 * jnp.sum(p**2))
    assert float(state.curvature) == 4.0
    _, state = tx.update(-x, state, x, grad=x, value_fn=lambda p: 2 * jnp.sum(p**2), curvature=7.0)
    assert float(state.curvature) == 7.0


@pytest.mark.parametrize(
    "extra", [{}, {"curvature": 1e9}, {"grad": jnp.ones(3)}, {"uncertainty": jnp.nan}, {"uncertainty": jnp.inf}]
)
def test_a_missing_argument_turns_off_only_the_limit_that_needs_it(extra):
    u, tx = jnp.array([1.0, 2.0, -3.0]), ugs_stabilize()
    found, state = tx.update(u, tx.init(u), u, **extra)
    np.testing.assert_array_equal(found, u)
    assert int(state.limited) == 0


@pytest.mark.parametrize("slope", [2.0, 0.0])
def test_an_update_that_does_not_descend_passes_unchanged_and_is_counted(slope):
    u, tx = jnp.array([1.0]), ugs_stabilize()
    found, state = tx.update(u, tx.init(u), u, grad=jnp.array([slope]), curvature=1.0)
    np.testing.assert_array_equal(found, u)
    assert (int(state.uphill), int(state.limited), float(state.scale)) == (1, 0, 1.0)
    _, state = tx.update(-u, state, u, grad=jnp.array([2.0]), curvature=1.0)
    assert int(state.uphill) == 1


def test_before_the_learning_rate_training_is_unchanged_and_the_state_reports_it():
    """In the wrong place every update points uphill. It used to be scaled by 0: training stood still."""
    loss = lambda p: jnp.sum((p - 3.0) ** 2)  # noqa: E731
    finals = []
    for members in ((), (ugs_stabilize(),)):
        tx = optax.chain(optax.scale_by_adam(), *members, optax.scale_by_learning_rate(0.1))
        x, state = jnp.zeros(2), tx.init(jnp.zeros(2))
        for _ in range(20):
            value, g = jax.value_and_grad(loss)(x)
            updates, state = tx.update(g, state, x, grad=g, value=value, value_fn=loss)
            x = optax.apply_updates(x, updates)
        finals.append(x)
    np.testing.assert_array_equal(*finals)
    assert int(optax.tree.get(state, "uphill")) == 20


def test_downward_curvature_limits_nothing():
    u, tx = jnp.array([-5.0]), limit_by_curvature()
    found, _ = tx.update(u, tx.init(u), u, grad=jnp.array([2.0]), curvature=-3.0)
    np.testing.assert_array_equal(found, u)


def test_steady_uncertainty_changes_nothing_and_a_spike_shortens():
    u, tx = jnp.array([1.0]), limit_by_uncertainty(power=2.0, decay=0.5)
    state = tx.init(u)
    for _ in range(3):
        found, state = tx.update(u, state, uncertainty=0.2)
        np.testing.assert_array_equal(found, u)
    found, state = tx.update(u, state, uncertainty=0.4)
    np.testing.assert_allclose(found, [0.25], rtol=1e-6)
    assert float(state.uncertainty) == pytest.approx(0.3)
    found, state = tx.update(u, state, uncertainty=0.1)  # below the mean: nothing is lengthened
    np.testing.assert_array_equal(found, u)
    assert int(state.limited) == 1
    assert int(state.count) == 5


def test_both_limits_multiply_and_count_once():
    g = jnp.array([1.0])
    tx = optax.chain(optax.sgd(1.0), ugs_stabilize())
    _, state = tx.update(g, tx.init(g), g, uncertainty=0.1)
    updates, state = tx.update(g, state, g, grad=g, curvature=4.0, uncertainty=0.2)
    np.testing.assert_allclose(updates, [-0.25 * 0.5], rtol=1e-6)
    assert int(optax.tree.get(state, "limited")) == 1
    assert float(optax.tree.get(state, "scale")) == pytest.approx(0.125)


def test_zero_updates_and_zero_gradients_are_harmless():
    zero = jnp.zeros(3)
    tx = ugs_stabilize(obj_fn=lambda p: jnp.sum(p**2), every=1)
    found, state = tx.update(zero, tx.init(zero), zero, grad=zero, uncertainty=0.0)
    np.testing.assert_array_equal(found, zero)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_bad_settings_and_missing_params_are_named():
    with pytest.raises(ValueError, match="every: expected at least 1 update"):
        ugs_stabilize(every=0)
    tx = ugs_stabilize(obj_fn=jnp.sum)
    with pytest.raises(ValueError, match="expected `params` for an exact product"):
        tx.update(jnp.ones(1), tx.init(jnp.ones(1)), grad=jnp.ones(1))


def test_a_loss_that_is_not_one_value_a_box_is_refused():
    limited = stabilize_loss(lambda boxes: jnp.sum(boxes**2), max_curvature=1.0)
    with pytest.raises(ValueError, match=r"one value a box, \(3,\) for boxes of shape \(3, 4\), got \(\)"):
        limited(jnp.ones((3, 4)))
