"""Closed forms compared with the losses of the library, which do not use them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from ugs_jax import losses
from ugs_jax.boxes import Anchors, cxcywh_to_xyxy, encode
from ugs_jax.curvature import bounds, closed_forms, eigenvalues, gauss_newton_product, hvp, in_double
from ugs_jax.curvature import hessian_by_autodiff as hessian

CONSTANT = 12.8


def exactly(function, *arguments):
    """In float64 and as one program: operation by operation takes a hundred times as long."""
    return in_double(jax.jit(function, compiler_options=QUICKLY), *arguments)


def pairs(count=200, seed=0):
    """Predictions and targets (cx, cy, w, h) with some overlap."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(2), np.log(300), (count, 1)) + rng.normal(0, 0.3, (count, 2)))
    targets = np.concatenate([rng.uniform(-50, 50, (count, 2)), sides], axis=1)
    boxes = targets + np.concatenate([sides, sides], axis=1) * rng.uniform(-0.3, 0.3, (count, 4))
    return boxes, targets


def corners(boxes):
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def l2_of_boxes(boxes, targets, anchors):
    """Our L2 through our codec, by (cx, cy, w, h)."""
    frame = Anchors(jnp.zeros_like(anchors), anchors, anchors)
    return losses.l2(encode(cxcywh_to_xyxy(boxes), frame), encode(cxcywh_to_xyxy(targets), frame))


def in_centers(loss):
    return lambda boxes, targets: loss(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(targets))


@pytest.mark.parametrize(
    ("closed", "loss"),
    [
        (closed_forms.iou_loss, losses.iou_loss),
        (closed_forms.log_iou, losses.log_iou),
        (closed_forms.giou, losses.giou),
        (closed_forms.ciou, losses.ciou),
    ],
)
def test_overlap_losses(closed, loss):
    boxes, targets = map(corners, pairs())
    wanted = exactly(functools.partial(hessian, loss), boxes, targets)
    np.testing.assert_allclose(exactly(closed, boxes, targets), wanted, rtol=1e-9, atol=1e-14)


def test_distance_losses():
    boxes, targets = pairs()
    nwd = in_centers(functools.partial(losses.nwd, constant=CONSTANT))
    wanted = exactly(functools.partial(hessian, nwd), boxes, targets)
    found = exactly(functools.partial(closed_forms.nwd, constant=CONSTANT), boxes, targets)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-15)
    dotd = in_centers(functools.partial(losses.dotd, constant=CONSTANT))
    wanted = exactly(functools.partial(hessian, dotd), boxes, targets)[:, :2, :2]
    found = exactly(functools.partial(closed_forms.dotd, constant=CONSTANT), boxes[:, :2], targets[:, :2])
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-15)


def test_l2_in_anchor_encoding():
    boxes, targets = pairs()
    anchors = np.random.default_rng(1).uniform(5, 50, (len(boxes), 2))
    wanted = exactly(functools.partial(hessian, l2_of_boxes), boxes, targets, anchors)
    np.testing.assert_allclose(exactly(closed_forms.l2, boxes, targets, anchors), wanted, rtol=1e-8, atol=1e-14)


def test_losses_of_logits():
    logits = np.random.default_rng(2).normal(0, 2, (50, 11))
    offsets = np.random.default_rng(3).uniform(-2, 2, 50)
    grid = np.linspace(-2, 2, 11)
    cross_entropy = exactly(
        functools.partial(hessian, lambda z, t: losses.interval_cross_entropy(z, t, grid)), logits, offsets
    )
    np.testing.assert_allclose(exactly(closed_forms.cross_entropy, logits), cross_entropy, rtol=1e-8, atol=1e-12)
    entropy = exactly(functools.partial(hessian, losses.entropy), logits)
    np.testing.assert_allclose(exactly(closed_forms.entropy, logits), entropy, rtol=1e-7, atol=1e-11)


def test_the_curvature_of_cross_entropy_is_at_most_a_half():
    logits = jnp.asarray(np.random.default_rng(4).normal(0, 1, (500, 11)) * np.geomspace(1e-3, 1e3, 500)[:, None])
    values = np.linalg.eigvalsh(np.asarray(closed_forms.cross_entropy(logits), np.float64))
    assert values.min() > -1e-6
    assert values.max() < 0.5 + 1e-6


def test_curvature_grows_as_boxes_shrink():
    boxes, targets = map(corners, pairs(20))
    for closed in (closed_forms.iou_loss, closed_forms.log_iou, closed_forms.giou, closed_forms.ciou):
        whole, half = exactly(closed, boxes, targets), exactly(closed, boxes / 2, targets / 2)
        np.testing.assert_allclose(half, 4 * whole, rtol=1e-12)


def test_kinks_have_the_jumps_that_the_remarks_name():
    """Slope by x̂ of a square of side w against its target, and of NWD, on either side of equality."""
    w, step = 10.0, 1e-6
    target = np.array([[0.0, 0.0, w, w]])
    shifted = np.concatenate([target + s * np.array([1, 0, 1, 0]) for s in (-step, 0.0, step)])
    targets = np.repeat(target, 3, axis=0)
    nwd = functools.partial(losses.nwd, constant=CONSTANT)
    for loss, jump in ((losses.log_iou, 4 / w), (losses.iou_loss, 4 / w), (nwd, 2 / CONSTANT)):
        left, right = np.diff(exactly(loss, shifted, targets)) / step
        assert right - left == pytest.approx(jump, rel=1e-3)


def test_the_fast_hessian_equals_the_plain_one():
    boxes, targets = map(corners, pairs(50))
    boxes, targets = (
        jnp.asarray(boxes.reshape(5, 10, 4), jnp.float32),
        jnp.asarray(targets.reshape(5, 10, 4), jnp.float32),
    )
    quick = functools.partial(jax.jit, compiler_options=QUICKLY)
    plain = quick(jax.vmap(jax.vmap(jax.hessian(losses.ciou))))(boxes, targets)
    found = quick(functools.partial(hessian, losses.ciou))(boxes, targets)
    np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-5)


def test_eigenvalues_ascend_and_are_those_of_the_hessian():
    boxes, targets = map(corners, pairs(20))
    found = exactly(functools.partial(eigenvalues, losses.giou), boxes, targets)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(exactly(closed_forms.giou, boxes, targets)), atol=1e-12)


def test_products_with_the_hessian_and_with_gauss_newton():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(6, 3)), rng.normal(size=6)
    x, v = {"w": rng.normal(size=3)}, {"w": rng.normal(size=3)}

    def model(p):
        return jnp.tanh(jnp.asarray(a) @ p["w"])

    def loss(y):
        return jnp.sum((y - b) ** 2)

    def both(x, v):
        return hvp(lambda p: loss(model(p)), x, v), gauss_newton_product(model, loss, x, v)

    product, approximate = exactly(both, x, v)
    with jax.enable_x64(True):
        full = np.asarray(jax.hessian(lambda w: loss(model({"w": w})))(jnp.asarray(x["w"])))
        jacobian = np.asarray(jax.jacobian(lambda w: model({"w": w}))(jnp.asarray(x["w"])))
    np.testing.assert_allclose(product["w"], full @ v["w"], rtol=1e-10)
    np.testing.assert_allclose(approximate["w"], 2 * jacobian.T @ jacobian @ v["w"], rtol=1e-10)


def test_a_loss_that_is_not_one_value_a_box_is_refused():
    with pytest.raises(ValueError, match=r"one value per box, \(3,\) for boxes of shape \(3, 4\), got \(\)"):
        hessian(lambda boxes: jnp.sum(boxes**2), jnp.ones((3, 4)))


def test_bounds_are_batched():
    boxes, targets = jnp.array([[0.0, 0.0, 4.0, 8.0], [1.0, 1.0, 33.0, 17.0]]), jnp.zeros((2, 4)) + jnp.arange(4.0) * 9
    for bound in (bounds.log_iou, bounds.iou_loss, bounds.ciou, bounds.entropy):
        np.testing.assert_allclose(bound(boxes), jnp.stack([bound(box) for box in boxes]), rtol=1e-6)
    np.testing.assert_allclose(
        bounds.giou(boxes, targets), [bounds.giou(*pair) for pair in zip(boxes, targets, strict=True)], rtol=1e-6
    )
    assert bounds.iou_loss(boxes).shape == (2,)


@pytest.mark.parametrize(
    "params", [{"w": jnp.ones(2), "b": jnp.ones(3)}, (jnp.ones(2), jnp.ones(2)), {"w": np.ones(2)}]
)
def test_a_pytree_of_parameters_is_refused_with_the_way_to_a_vector(params):
    with pytest.raises(TypeError, match=r"expected boxes as one array .* got a pytree.*ravel_pytree"):
        hessian(lambda p: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(p)), params)


def test_nested_lists_of_numbers_are_boxes():
    np.testing.assert_allclose(hessian(lambda b: (b**2).sum(-1), [[1.0, 2.0]]), [2 * np.eye(2)])
