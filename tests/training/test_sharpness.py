"""Curvature and spread of gradients by size, against dense Hessians of one box at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import QUICKLY
from tests.training.test_objective import ARCH, random_outputs
from tests.training.toy import random_batch
from ugs_jax import losses
from ugs_jax.boxes import Anchors, iou
from ugs_jax.detectors import Distribution, Interval, Regression, localize
from ugs_jax.training.matching import match
from ugs_jax.training.sharpness import SHARPNESS, SIZES, sharpness_by_size

OBJECTIVES = {
    "ciou": Regression(),
    "l2": Regression(losses.l2, space="offsets"),
    "ugs": Interval(),
    "dfl": Distribution(),
}


def positives(matches):
    """Raw outputs, anchor, target and √area of every positive, one at a time."""
    for one in matches:
        raw = localize(one.localizer, one.features())
        for index in map(tuple, np.argwhere(one.positive)):
            target = one.targets[index]
            side = float(np.sqrt(np.prod(np.asarray(target[2:] - target[:2], np.float64))))
            yield raw[index], Anchors(*(part[index] for part in one.anchors)), target, side


def measure(localization, batch=None):
    run = lambda outputs, batch: sharpness_by_size(match(outputs, batch, ARCH, 4.0), localization)  # noqa: E731
    compiled = jax.jit(run, compiler_options=QUICKLY)
    found = compiled(random_outputs(localization), batch or random_batch())
    return {name: float(value) for name, value in found.items()}


@pytest.fixture(scope="module", params=OBJECTIVES)
def measured(request):
    localization = OBJECTIVES[request.param]
    found = measure(localization)
    loss = lambda raw, anchors, target: localization.loss(raw, anchors, target).loss  # noqa: E731
    quick = lambda function: jax.jit(function, compiler_options=QUICKLY)  # noqa: E731
    pull, bend = quick(jax.grad(loss)), quick(jax.hessian(loss))
    log_iou = quick(jax.hessian(lambda box, target: -jnp.log(iou(box, target))))
    matches = match(random_outputs(localization), random_batch(), ARCH, 4.0)
    rows = []
    for raw, anchors, target, side in positives(matches):
        box = localization.decode(raw, anchors)
        of_box = np.linalg.norm(log_iou(box, target)) if iou(box, target) > 0 else np.nan
        rows.append((
            side,
            np.linalg.norm(pull(raw, anchors, target)),
            np.linalg.norm(bend(raw, anchors, target)),
            of_box,
        ))  # fmt: skip
    return found, np.array(rows)


def test_every_size_has_its_names(measured):
    assert set(measured[0]) == set(SHARPNESS)


def test_spread_of_gradients_is_that_of_single_boxes(measured):
    found, rows = measured
    for name, (low, high) in SIZES.items():
        pulls = rows[(rows[:, 0] >= low) & (rows[:, 0] < high), 1]
        if len(pulls):
            assert found[f"gradient_variance_{name}"] == pytest.approx(pulls.var() / pulls.mean() ** 2, rel=1e-3)


def test_curvature_of_boxes_is_that_of_dense_hessians(measured):
    found, rows = measured
    for name, (low, high) in SIZES.items():
        bends = rows[(rows[:, 0] >= low) & (rows[:, 0] < high), 3]
        bends = bends[bends > 0]
        if len(bends):
            assert found[f"box_curvature_{name}"] == pytest.approx(np.exp(np.log(bends).mean()), rel=2e-3)


def test_curvature_estimates_the_frobenius_norm_of_dense_hessians(measured):
    """E‖Hv‖² = ‖H‖²_F; with rank-1 Hessians at worst, var ‖Hv‖² ≤ 2‖H‖⁴_F, so five standard errors of the mean."""
    found, rows = measured
    for name, (low, high) in SIZES.items():
        squares = rows[(rows[:, 0] >= low) & (rows[:, 0] < high), 2] ** 2
        if len(squares):
            error = np.sqrt(2 * (squares**2).sum()) / len(squares)
            assert found[f"curvature_{name}"] ** 2 == pytest.approx(squares.mean(), abs=5 * error)
            assert error < squares.mean()  # or the test could not fail


def test_a_size_without_positives_is_not_a_number():
    batch = random_batch()
    assert np.isnan(measure(Regression())["curvature_large"])  # no box of 64 px or more
    assert np.isnan([*measure(Regression(), batch._replace(mask=np.zeros_like(batch.mask))).values()]).all()


def test_a_factor_on_the_loss_scales_curvature_and_leaves_the_spread():
    plain, scaled = measure(Regression(losses.giou)), measure(Regression(lambda a, b: 1e3 * losses.giou(a, b)))
    for name, value in plain.items():
        if np.isfinite(value):
            wanted = 1e3 * value if name.startswith("curvature") else value
            np.testing.assert_allclose(scaled[name], wanted, rtol=1e-4)
