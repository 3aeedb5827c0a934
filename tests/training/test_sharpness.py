"""Curvature and gradient variance by size, compared with dense Hessians of one box at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.training.test_objective import ARCH, random_outputs
from tests.training.toy import random_batch
from ugs_jax import losses
from ugs_jax.boxes import iou
from ugs_jax.detectors import localize
from ugs_jax.objectives import DFL, UGS, BoxRegression
from ugs_jax.training import compaction
from ugs_jax.training.matching import match
from ugs_jax.training.sharpness import SHARPNESS, SIZES, sharpness_by_size

OBJECTIVES = {
    "ciou": BoxRegression(),
    "l2": BoxRegression(losses.l2, space="offsets"),
    "ugs": UGS(),
    "dfl": DFL(),
}


@functools.lru_cache
def program(localization):
    run = lambda outputs, batch: sharpness_by_size(match(outputs, batch, ARCH, 4.0), localization)  # noqa: E731
    return jax.jit(run, compiler_options=QUICKLY)


def measure(localization, batch=None):
    found = program(localization)(random_outputs(localization), batch or random_batch())
    return {name: float(value) for name, value in found.items()}


def dense(localization):
    """√area of the target, ‖gradient‖, ‖Hessian‖ and ‖Hessian of −ln IoU‖ of every positive, each by itself."""

    def of_one(raw, anchors, target):
        loss = lambda raw: localization.loss(raw, anchors, target).loss  # noqa: E731
        box = localization.decode(raw, anchors)
        of_box = jnp.linalg.norm(jax.hessian(lambda box: -jnp.log(iou(box, target)))(box))
        pull, bend = jnp.linalg.norm(jax.grad(loss)(raw)), jnp.linalg.norm(jax.hessian(loss)(raw))
        return target, pull, bend, jnp.where(iou(box, target) > 0, of_box, jnp.nan)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def of_candidates(outputs, batch):
        matches = match(outputs, batch, ARCH, 4.0)
        each = [(localize(one.localizer, one.features()), one.anchors, one.targets, one.positive) for one in matches]
        flat = jax.tree.map(
            lambda *parts: jnp.concatenate([part.reshape(-1, *part.shape[4:]) for part in parts]), *each
        )
        return jax.vmap(of_one)(*flat[:3]), flat[3]

    (targets, *norms), positive = jax.device_get(of_candidates(random_outputs(localization), random_batch()))
    sides = np.sqrt(np.prod((targets[:, 2:] - targets[:, :2]).astype(np.float64), axis=1))
    return np.stack([sides, *norms], axis=1)[positive]


@pytest.fixture(scope="module", params=OBJECTIVES)
def measured(request):
    return measure(OBJECTIVES[request.param]), dense(OBJECTIVES[request.param])


def test_there_are_positives_of_several_sizes(measured):
    assert len(measured[1]) > 20
    assert np.isfinite(measured[1][:, :3]).all()
    assert np.isfinite(measured[1][:, 3]).sum() > 5


def test_every_size_has_its_metrics(measured):
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


def test_positives_in_many_chunks_are_measured_as_all_at_once(monkeypatch):
    localization = UGS()
    whole = measure(localization)
    monkeypatch.setattr(compaction, "candidates", functools.partial(int, 8))
    monkeypatch.setattr(compaction, "few", functools.partial(int, 0))
    program.cache_clear()
    np.testing.assert_allclose([*measure(localization).values()], [*whole.values()], rtol=1e-4)
    program.cache_clear()  # of programs with small chunks


def test_a_size_without_positives_is_not_a_number():
    batch = random_batch()
    assert np.isnan(measure(BoxRegression())["curvature_large"])  # no box of 64 px or more
    assert np.isnan([*measure(BoxRegression(), batch._replace(mask=np.zeros_like(batch.mask))).values()]).all()


def test_a_factor_on_the_loss_scales_the_curvature_and_not_the_relative_variance():
    plain, scaled = measure(BoxRegression(losses.giou)), measure(BoxRegression(lambda a, b: 1e3 * losses.giou(a, b)))
    for name, value in plain.items():
        if np.isfinite(value):
            wanted = 1e3 * value if name.startswith("curvature") else value
            np.testing.assert_allclose(scaled[name], wanted, rtol=1e-4)
