"""Properties of all losses on pairs of boxes: 1−IoU, −ln IoU, GIoU, DIoU, CIoU, NWD, DotD."""

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

LOSSES = {name: getattr(losses, name) for name in ("iou_loss", "log_iou", "giou", "diou", "ciou", "nwd", "dotd")}
every_loss = pytest.mark.parametrize("name", LOSSES)

T = [10.0, 10.0, 18.0, 16.0]
SINGULAR = {
    "identical": (T, T),
    "point inside": ([12.0, 12.0, 12.0, 12.0], T),
    "line inside": ([12.0, 12.0, 12.0, 15.0], T),
    "point target": (T, [12.0, 12.0, 12.0, 12.0]),
    "same point twice": ([5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0]),
    "two points": ([5.0, 5.0, 5.0, 5.0], [9.0, 5.0, 9.0, 5.0]),
    "both at the origin": ([0.0] * 4, [0.0] * 4),
    "touching sides": ([2.0, 10.0, 10.0, 16.0], T),
    "touching corners": ([2.0, 2.0, 10.0, 10.0], T),
    "disjoint": ([40.0, 40.0, 50.0, 44.0], T),
    "same centre": ([12.0, 12.0, 16.0, 14.0], T),
    "reversed in x": ([18.0, 10.0, 10.0, 16.0], T),
    "reversed in both": ([18.0, 16.0, 10.0, 10.0], T),
    "1e4 px": ([0.0, 0.0, 1e4, 1e4], [8.0, 8.0, 1e4, 9e3]),
    "tiny in huge": ([7.0, 7.0, 8.0, 8.0], [0.0, 0.0, 1e4, 1e4]),
}
EXTREME = {
    "1e30 px": ([0.0, 0.0, 1e30, 1e30], T),
    "infinite": ([-np.inf, 0.0, np.inf, 3.0], T),
    "two 1e30 px": ([0.0, 0.0, 1e30, 1e30], [-1e30, 0.0, 1e30, 1e30]),
    "thin": ([0.0, 0.0, 1e-6, 1e4], [0.0, 0.0, 2e-6, 1e4]),
    "1e-6 px": ([0.0, 0.0, 1e-6, 1e-6], [0.0, 0.0, 2e-6, 1e-6]),
    "1e-20 px": ([0.0, 0.0, 1e-20, 1e-20], [0.0, 0.0, 2e-20, 1e-20]),
    "1e-12 px apart": ([0.0, 0.0, 4.0, 4.0], [1e-12, 0.0, 4.0, 4.0]),
}


def evaluate(name, pairs, dtype, derivatives=(jax.grad,)):
    boxes, targets = (jnp.array(np.array(side), dtype) for side in zip(*pairs.values(), strict=True))
    loss = LOSSES[name]
    every = jax.vmap(lambda b, t: (loss(b, t), *(derivative(loss)(b, t) for derivative in derivatives)))
    return jax.jit(every)(boxes, targets)


def assert_all_finite(array, pairs):
    finite = np.isfinite(np.asarray(array.astype(jnp.float32))).reshape(len(pairs), -1).all(-1)
    assert finite.all(), f"not finite: {[key for key, good in zip(pairs, finite, strict=True) if not good]}"


@every_loss
def test_values_equal_those_of_a_plain_loop(name):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 20, (2, 40, 2))
    boxes, targets = np.concatenate([low, low + rng.uniform(2, 15, (2, 40, 2))], -1).astype(np.float32)
    want = [getattr(reference, name)(b, t) for b, t in zip(boxes.tolist(), targets.tolist(), strict=True)]
    got = jax.jit(LOSSES[name])(jnp.array(boxes), jnp.array(targets))
    assert got.shape == (40,)
    # Areas of a few px² from coordinates of 35 px: a relative error of about 2e-6.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@every_loss
def test_values_and_gradients_and_hessians_are_finite_at_the_singular_points(name):
    pairs = SINGULAR | EXTREME
    for result in evaluate(name, pairs, jnp.float32, (jax.grad, jax.hessian)):
        assert_all_finite(result, pairs)


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, jnp.float16) for name in LOSSES] + [("ciou", jnp.bfloat16), ("nwd", jnp.bfloat16)]
)
def test_half_precision_gives_finite_values_and_gradients(name, dtype):
    value, gradient = evaluate(name, SINGULAR, dtype)
    assert value.dtype == gradient.dtype == dtype
    assert_all_finite(value, SINGULAR)
    assert_all_finite(gradient, SINGULAR)


@every_loss
def test_identical_boxes_have_zero_loss_and_gradient(name):
    value, gradient = evaluate(name, {"identical": SINGULAR["identical"]}, jnp.float32)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros((1, 4)), atol=1e-6)


GENERIC = [
    ([10.5, 9.0, 17.0, 15.5], T),  # overlapping
    ([11.0, 11.0, 15.5, 14.0], T),  # inside
    ([5.0, 4.0, 30.0, 33.0], T),  # around
    ([30.0, 33.0, 41.0, 37.0], T),  # apart
]


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ciou"])  # its α is a constant: the next test
def test_gradients_are_right_to_second_order(name):
    with jax.enable_x64(True):
        boxes, targets = (jnp.array(side) for side in zip(*GENERIC, strict=True))
        check_grads(jax.jit(lambda b: LOSSES[name](b, targets)), (boxes,), order=2, modes=["rev"])


@pytest.mark.parametrize(("box", "target"), GENERIC)
def test_the_gradient_of_ciou_treats_its_weight_as_a_constant(box, target):
    weight, h = reference.aspect_weight(box, target), 1e-5
    want = []
    for k in range(4):
        up, down = ([*box[:k], box[k] + s * h, *box[k + 1 :]] for s in (1, -1))
        want.append((reference.ciou(up, target, weight) - reference.ciou(down, target, weight)) / (2 * h))
    with jax.enable_x64(True):
        got = jax.jit(jax.grad(losses.ciou))(jnp.array(box), jnp.array(target))
    np.testing.assert_allclose(got, want, atol=1e-8)  # central differences: h² + 1e-16/h


eighths = hnp.arrays(np.int32, (6, 4), elements=st.integers(0, 300)).map(
    lambda a: np.concatenate([a[:, :2], a[:, :2] + a[:, 2:] + 1], -1).astype(np.float32) / 8
)


@jax.jit
def overlap_losses(a, b):
    return losses.iou_loss(a, b), losses.giou(a, b), losses.diou(a, b), losses.ciou(a, b), losses.log_iou(a, b)


@given(eighths, eighths)
def test_losses_are_ordered_as_published(a, b):
    plain, general, distance, complete, log = overlap_losses(jnp.array(a), jnp.array(b))
    rounding = 1e-5
    assert np.all(plain >= -rounding)
    assert np.all(general >= plain - rounding)
    assert np.all(distance >= plain - rounding)
    assert np.all(complete >= distance - rounding)
    assert np.all(general <= 2 + rounding)
    assert np.all(distance <= 2 + rounding)
    assert np.all(log >= plain - rounding)  # −ln x ≥ 1 − x


@given(eighths, eighths)
def test_distances_are_bounded_and_symmetric_and_unchanged_by_a_common_shift(a, b):
    for loss in (jax.jit(losses.nwd), jax.jit(losses.dotd)):
        value = loss(jnp.array(a), jnp.array(b))
        assert np.all((value >= 0) & (value <= 1))
        np.testing.assert_allclose(loss(jnp.array(b), jnp.array(a)), value, atol=1e-6)
        np.testing.assert_allclose(loss(jnp.array(a + 64), jnp.array(b + 64)), value, atol=1e-6)


def test_boxes_apart_are_pulled_together_by_all_but_the_plain_iou_losses():
    box, target = jnp.array([40.0, 10.0, 48.0, 16.0]), jnp.array(T)
    pull = {name: np.asarray(jax.jit(jax.grad(loss))(box, target)) for name, loss in LOSSES.items()}
    for name in ("giou", "diou", "ciou", "nwd", "dotd"):
        assert pull[name][0] + pull[name][2] > 0, name
    for name in ("iou_loss", "log_iou"):
        np.testing.assert_array_equal(pull[name], np.zeros(4))


def test_supplement_gradients_of_minus_log_iou_for_shifted_squares():
    """METHOD, section 1: equal squares shifted by d < w have slope 2w/(w²−d²) and curvature 4wd/(w²−d²)²."""
    with jax.enable_x64(True):
        w, d = 12.0, 3.0
        square, right = jnp.array([0.0, 0.0, w, w]), jnp.array([1.0, 0.0, 1.0, 0.0])

        def shifted(shift):
            return losses.log_iou(square + shift * right, square)

        assert float(jax.jit(jax.grad(shifted))(d)) == pytest.approx(2 * w / (w**2 - d**2), rel=1e-12)
        assert float(jax.jit(jax.grad(jax.grad(shifted)))(d)) == pytest.approx(
            4 * w * d / (w**2 - d**2) ** 2, rel=1e-12
        )


def test_the_loss_of_disjoint_boxes_is_minus_log_of_the_floor():
    box = jnp.array([40.0, 10.0, 48.0, 16.0])
    assert float(losses.log_iou(box, jnp.array(T), floor=1e-3)) == pytest.approx(6.9077553)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: losses.log_iou(b, b, floor=0.0), r"floor: expected an IoU in \(0, 1\), got 0.0"),
        (lambda b: losses.nwd(b, b, constant=0), "constant: expected a length in px > 0, got 0"),
        (lambda b: losses.dotd(b, b, constant=-1), "constant: expected a length in px > 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.array(T))
