"""Limit by value: no step goes past a minimum, smooth or kinked, at any learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stabilize.quadratics import SEEDS, SPECTRA, quadratic
from ugs_jax.boxes import iou
from ugs_jax.losses import log_iou
from ugs_jax.stabilize import limit_by_value, limit_loss_by_value, stabilize_loss


@given(SPECTRA, SEEDS, st.floats(0.01, 1e6), st.floats(0.05, 1.95), st.booleans())
@settings(max_examples=40, deadline=None)
def test_limited_by_value_the_distance_to_the_optimum_never_grows(spectrum, seed, rate, fraction, kinked):
    """Convex, smooth or with a kink at the optimum, at any learning rate: f − f* ≤ gᵀ(x − x*), and ‖·‖² expanded."""
    h, x = quadratic(spectrum, seed)
    tx = optax.chain(optax.sgd(rate), limit_by_value(3.0, fraction))
    with jax.enable_x64(True):
        h, x = jnp.asarray(h), jnp.asarray(x)
        loss = lambda p: 3.0 + (jnp.sqrt(p @ h @ p) if kinked else 0.5 * p @ h @ p)  # noqa: E731
        state, distances = tx.init(x), [float(jnp.linalg.norm(x))]
        for _ in range(8):
            value, g = jax.value_and_grad(loss)(x)
            updates, state = tx.update(g, state, x, grad=g, value=value)
            x = optax.apply_updates(x, updates)
            distances.append(float(jnp.linalg.norm(x)))
    assert np.all(np.diff(distances) <= 1e-9 * distances[0])


def test_limited_by_value_a_cone_is_descended_at_a_rate_a_million_times_too_high():
    tx = optax.chain(optax.sgd(1e6), limit_by_value())
    x = jnp.array([3.0, -4.0])
    state = tx.init(x)
    value, g = jax.value_and_grad(jnp.linalg.norm)(x)
    updates, state = tx.update(g, state, x, grad=g, value=value)
    np.testing.assert_allclose(optax.apply_updates(x, updates), 0, atol=1e-6)
    assert int(optax.tree.get(state, "limited")) == 1


def test_the_value_limit_leaves_updates_bit_identical_if_the_loss_is_large_enough():
    x, g = jnp.array([1.0, -2.0]), jnp.array([0.3, 0.7])
    tx = limit_by_value()
    found, state = tx.update(-0.1 * g, tx.init(x), x, grad=g, value=1.0)
    np.testing.assert_array_equal(found, -0.1 * g)
    assert int(state.limited) == 0
    for missing in ({"grad": g}, {"value": 1.0}, {}):
        np.testing.assert_array_equal(tx.update(-9.0 * g, state, x, **missing)[0], -9.0 * g)


def test_an_update_uphill_is_unchanged_and_a_loss_at_its_minimum_takes_no_step():
    x, g = jnp.array([1.0]), jnp.array([2.0])
    tx = limit_by_value(minimum=0.5)
    np.testing.assert_array_equal(tx.update(g, tx.init(x), x, grad=g, value=9.0)[0], g)
    np.testing.assert_array_equal(tx.update(-g, tx.init(x), x, grad=g, value=0.5)[0], [0])
    np.testing.assert_array_equal(tx.update(-g, tx.init(x), x, grad=g, value=0.1)[0], [0])


def test_limited_by_value_boxes_of_all_sizes_reach_their_targets_at_one_rate():
    """The supplement's problem, which the curvature limit cannot solve: −ln IoU in px, kinked at the optimum."""
    sides = jnp.array([4.0, 16.0, 64.0, 256.0])[:, None]
    targets = sides * jnp.array([0.0, 0.0, 1.0, 1.0])
    start = targets + 0.2 * sides * jnp.array([1.0, -0.5, 1.2, -0.4])
    rate = 1e4

    def final(loss):
        gradient = jax.grad(lambda b: loss(b, targets).sum())
        return jax.lax.fori_loop(0, 200, lambda _, b: b - rate * gradient(b), start)

    found = iou(final(limit_loss_by_value(log_iou, learning_rate=rate)), targets)
    assert (found > 0.95).all()
    assert not (iou(final(log_iou), targets) > 0.5).all()
    assert not (iou(final(stabilize_loss(log_iou, max_curvature=1 / rate)), targets) > 0.5).all()


def test_a_loss_limited_by_value_keeps_its_values_and_the_direction_of_its_gradients():
    rng = np.random.default_rng(0)
    targets = jnp.asarray(rng.uniform(0, 9, (50, 4)) + np.array([0, 0, 20, 20]))
    boxes = targets + jnp.asarray(rng.uniform(-3, 3, (50, 4)))
    limited = limit_loss_by_value(log_iou, learning_rate=30.0)
    np.testing.assert_array_equal(limited(boxes, targets), log_iou(boxes, targets))
    plain, found = (np.asarray(jax.grad(lambda b, f=f: f(b, targets).sum())(boxes)) for f in (log_iou, limited))
    scale = np.linalg.norm(found, axis=1) / np.linalg.norm(plain, axis=1)
    np.testing.assert_allclose(found, scale[:, None] * plain, rtol=1e-5, atol=1e-8)
    wanted = np.minimum(1, np.asarray(log_iou(boxes, targets)) / (30 * (plain**2).sum(axis=1)))
    np.testing.assert_allclose(scale, wanted, rtol=1e-4)
    assert 0.05 < (scale < 1).mean() < 0.95
    with pytest.raises(ValueError, match=r"one value a box, \(50,\)"):
        limit_loss_by_value(lambda b: b.sum(), learning_rate=1.0)(boxes)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_an_update_with_a_value_that_is_not_finite_passes_unchanged(value):
    g, tx = jnp.array([2.0]), limit_by_value()
    found, state = tx.update(-g, tx.init(g), g, grad=g, value=value)
    np.testing.assert_array_equal(found, -g)
    assert int(state.limited) == 0


LIMITERS = {
    "stabilize_loss": lambda loss: stabilize_loss(loss, max_curvature=1.0),
    "limit_loss_by_value": lambda loss: limit_loss_by_value(loss, learning_rate=1.0),
}


@pytest.mark.parametrize("name", LIMITERS)
@pytest.mark.parametrize(
    "loss",
    [
        lambda boxes: -jnp.log(jnp.abs(boxes[..., 0])),  # infinite at 0, as its slope
        lambda boxes: jnp.where(boxes[..., 0] == 0, jnp.inf, 0) + jnp.sum(boxes**2, axis=-1),  # its slope is finite
        lambda boxes: jnp.where(boxes[..., 0] == 0, jnp.nan, 1.0) * jnp.sum(boxes**2, axis=-1),
    ],
)
def test_a_loss_that_is_not_finite_is_unchanged_and_affects_no_other_box(name, loss):
    boxes = jnp.array([[0.0, 1.0], [0.5, 2.0]])
    limited = LIMITERS[name](loss)
    np.testing.assert_array_equal(limited(boxes), loss(boxes))
    found = jax.grad(lambda b: limited(b)[1])(boxes)
    assert np.isfinite(found).all()
    assert np.any(found[1] != 0)
    every = jax.grad(lambda b: limited(b).sum())(boxes)
    assert np.isfinite(every).all()
    np.testing.assert_array_equal(every[1], found[1])


@pytest.mark.parametrize("name", LIMITERS)
def test_limited_losses_are_differentiated_forward_backward_and_twice(name):
    limited = LIMITERS[name](lambda boxes: jnp.sum(boxes**4, axis=-1))
    boxes = jnp.array([[2.0, 1.0], [0.1, 0.2]])
    total = lambda b: limited(b).sum()  # noqa: E731
    backward = jax.grad(total)(boxes)
    np.testing.assert_allclose(jax.jacfwd(total)(boxes), backward, rtol=1e-6)
    assert np.isfinite(jax.hessian(total)(boxes)).all()


def test_settings_that_would_reverse_the_gradient_are_refused_or_count_as_zero():
    square = lambda boxes: jnp.sum(boxes**2, axis=-1)  # noqa: E731
    for bound in (-0.5, 0.0):
        with pytest.raises(ValueError, match=r"max_curvature: expected a number in \(0, inf\), got"):
            stabilize_loss(square, max_curvature=bound)
    with pytest.raises(ValueError, match="learning_rate: expected"):
        limit_loss_by_value(square, learning_rate=-1.0)
    pull = jax.grad(lambda b, bound: stabilize_loss(square, max_curvature=bound)(b).sum())
    np.testing.assert_array_equal(pull(jnp.ones((1, 2)), jnp.array(-0.5)), 0)
