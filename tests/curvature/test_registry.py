"""Closed forms that `hessian` takes: those of our losses equal autodiff, ties included, and yours are checked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugs_jax import losses
from ugs_jax.curvature import check_hessian, hessian, hessian_by_autodiff, register_hessian
from ugs_jax.curvature.registry import HESSIANS, closed_form

GRID = np.linspace(-2.0, 2.0, 5)
OF_BOXES = (losses.iou_loss, losses.log_iou, losses.giou, losses.diou, losses.ciou, losses.nwd, losses.dotd)
OF_OFFSETS = (losses.l1, losses.l2, losses.smooth_l1)
OF_LOGITS = {
    losses.entropy: losses.entropy,
    losses.normalised_entropy: losses.normalised_entropy,
    losses.distribution_focal: losses.distribution_focal,
    losses.interval_cross_entropy: functools.partial(losses.interval_cross_entropy, grid=GRID),
    losses.entropy_gap: functools.partial(losses.entropy_gap, grid=GRID),
}

seeds = st.integers(0, 2**32 - 1)


@functools.cache
def programs(loss):
    """Return the closed form and autodiff, compiled."""
    assert closed_form(loss) is not None
    return jax.jit(functools.partial(hessian, loss)), jax.jit(jax.vmap(jax.hessian(loss)))


def assert_equal(loss, *args, scale=1.0, atol=1e-12):
    """Compare in float64. Hessians are multiplied by scale², the size of the terms that cancel in them."""
    with jax.enable_x64(True):
        found, wanted = (np.asarray(program(*args)) * scale**2 for program in programs(loss))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=atol)


def test_all_losses_with_one_value_for_each_box_have_a_closed_form():
    assert {*OF_BOXES, *OF_OFFSETS, *OF_LOGITS} <= set(HESSIANS)


@pytest.mark.parametrize("loss", OF_BOXES)
@settings(max_examples=8)
@given(seed=seeds, scale=st.sampled_from([1e-3, 0.5, 1.0, 300.0]))
def test_hessians_of_box_losses_equal_autodiff_with_ties_and_empty_and_reversed_boxes(loss, seed, scale):
    boxes, targets = scale * np.random.default_rng(seed).integers(0, 6, (2, 500, 4))
    assert_equal(loss, boxes, targets, scale=scale)


@pytest.mark.parametrize("loss", OF_BOXES)
@settings(max_examples=8)
@given(seed=seeds)
def test_hessians_of_box_losses_equal_autodiff_at_boxes_in_general_position(loss, seed):
    rng = np.random.default_rng(seed)
    side = np.exp(rng.uniform(np.log(0.5), np.log(2000), (500, 1)))
    boxes, targets = rng.normal(size=(2, 500, 4)) * side
    with jax.enable_x64(True):
        found, wanted = (np.asarray(program(boxes, targets)) for program in programs(loss))
    size = np.abs(wanted).max(axis=(1, 2), keepdims=True)
    assert np.all(np.abs(found - wanted) <= 1e-8 * size + 1e-12 / side[..., None] ** 2)


@pytest.mark.parametrize("loss", OF_OFFSETS)
@settings(max_examples=8)
@given(seed=seeds)
def test_hessians_of_norms_equal_autodiff(loss, seed):
    rng = np.random.default_rng(seed)
    offsets = rng.integers(-4, 5, (500, 4)) / 2  # on the joint of smooth L1 as well
    targets = np.where(offsets == 0, 0.25, 0.0)
    assert_equal(loss, offsets, targets)


def test_smooth_l1_is_a_parabola_where_autodiff_of_the_loss_has_no_curvature():
    """At the target the loss is d²/2β. Its slope is written as the slope of |d|², which is 0 · 0 there for autodiff."""
    found = hessian(functools.partial(losses.smooth_l1, beta=0.5), jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_array_equal(found, 2 * np.eye(3))


@pytest.mark.parametrize("loss", OF_LOGITS)
@settings(max_examples=8)
@given(seed=seeds, spread=st.sampled_from([0.1, 1.0, 30.0]))
def test_hessians_of_losses_of_logits_equal_autodiff(loss, seed, spread):
    rng = np.random.default_rng(seed)
    logits, offsets = spread * rng.normal(size=(500, 5)), rng.uniform(-3, 6, 500)
    further = () if loss in (losses.entropy, losses.normalised_entropy) else (offsets,)
    assert_equal(OF_LOGITS[loss], logits, *further, atol=1e-11)


@pytest.mark.parametrize("loss", [losses.log_iou, losses.ciou])
def test_hessians_are_finite_and_zero_by_clipped_coordinates(loss):
    numbers = jnp.array([-jnp.inf, -3e9, 0.0, 1e-20, 1e-7, 3.0, 2e9, jnp.inf])
    boxes = jnp.stack(jnp.meshgrid(numbers, numbers, numbers, numbers), axis=-1).reshape(-1, 4)
    found = np.asarray(jax.jit(functools.partial(hessian, loss))(boxes, jnp.array([0.0, 0.0, 3.0, 3.0])))
    assert np.isfinite(found).all()
    assert not found[np.abs(np.asarray(boxes)) > 1e9].any()


def test_logits_without_limit_have_finite_hessians():
    logits = jnp.array([[jnp.inf, 0.0, -jnp.inf], [1e31, 1e31, 0.0], [-jnp.inf] * 3])
    assert np.isfinite(np.asarray(hessian(losses.entropy, logits))).all()
    assert np.isfinite(np.asarray(hessian(losses.distribution_focal, logits, jnp.ones(3)))).all()


def test_settings_by_partial_reach_the_closed_form():
    loss = functools.partial(losses.nwd, constant=3.0)
    assert closed_form(loss) is not None
    boxes, targets = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([[1.0, 0.5, 5.0, 5.0]])
    assert_equal(loss, boxes, targets)
    with pytest.raises(ValueError, match="floor: expected an IoU"):
        hessian(functools.partial(losses.log_iou, floor=2.0), jnp.zeros(4), jnp.zeros(4))


def test_batches_broadcast_and_half_precision_stays():
    boxes, target = jnp.ones((2, 3, 4), jnp.float16), jnp.zeros(4, jnp.float16)
    found = jax.jit(jax.vmap(lambda b: hessian(losses.smooth_l1, b / 2, target)))(boxes)
    assert found.dtype == jnp.float16
    np.testing.assert_array_equal(found, np.broadcast_to(np.eye(4), (2, 3, 4, 4)))
    assert hessian(losses.l2, jnp.zeros((2, 3)), jnp.zeros(3)).shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"one value per box, \(\) for boxes of shape \(4,\), got \(2, 3\)"):
        hessian(losses.giou, target, boxes)


def log_cosh(x, y):
    return jnp.sum(jnp.log(jnp.cosh(x - y)), axis=-1)


def its_hessian(x, y):
    return (1 - jnp.tanh(x - y) ** 2)[..., None] * jnp.eye(x.shape[-1])


SAMPLES = np.random.default_rng(0).normal(size=(2, 30, 3))


def test_a_registered_form_is_used():
    def loss(x, y):
        return log_cosh(x, y)

    called = []

    def form(x, y):
        called.append(1)
        return its_hessian(x, y)

    register_hessian(loss, form, *SAMPLES)
    called.clear()
    x, y = jnp.asarray(SAMPLES, jnp.float32)
    np.testing.assert_allclose(hessian(loss, x, y), hessian_by_autodiff(log_cosh, x, y), rtol=1e-4, atol=1e-6)
    assert called


def test_a_wrong_form_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"log_cosh: expected the Hessian that autodiff .* form/autodiff is 2 at all"):
        register_hessian(log_cosh, lambda x, y: 2 * its_hessian(x, y), *SAMPLES)
    assert log_cosh not in HESSIANS
    with pytest.raises(ValueError, match="expected a form of shape"):
        register_hessian(log_cosh, lambda x, _: x, *SAMPLES)
    with pytest.raises(ValueError, match=r"the loss has a kink near x"):
        check_hessian(lambda x: jnp.abs(x).sum(-1), lambda x: jnp.zeros((*x.shape, 3)), np.zeros((2, 3)))


@pytest.mark.parametrize("samples", [(), (np.zeros(3),), (np.zeros((2, 3)), np.zeros(3)), (np.zeros((0, 3)),)])
def test_samples_are_arrays_of_boxes_and_arguments(samples):
    with pytest.raises(ValueError, match=r"expected samples as boxes \[count, d\]"):
        check_hessian(log_cosh, its_hessian, *samples)
