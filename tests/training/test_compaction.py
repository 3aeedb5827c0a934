"""Compaction: values, gradients and Hessian-vector products of the whole arrays, for any number of marked rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.training.test_added_layers import OBJECTIVES, outputs_with_layers
from tests.training.test_cells_objective import PYRAMID, batch_of, outputs_of, scene
from tests.training.test_objective import ARCH, GAINS, L1, random_outputs
from tests.training.toy import random_batch
from ugs_jax.detectors import CenterSampling
from ugs_jax.experiment import LossWeights
from ugs_jax.objectives import BoxRegression
from ugs_jax.training import compaction, objective
from ugs_jax.training.compaction import at_marked

ROWS = 11
MASKS = {
    "none": np.zeros((2, ROWS), bool),
    "all": np.ones((2, ROWS), bool),
    "one image": np.arange(2 * ROWS).reshape(2, ROWS) < ROWS,
    "some": np.random.default_rng(0).uniform(size=(2, ROWS)) < 0.4,
    "two chunks": np.isin(np.arange(ROWS), [2, 5, 6, 10])[None].repeat(2, axis=0),
}


def function(params, maps, rows, constants):
    hidden = jnp.tanh(rows @ params + jnp.cos(maps).sum(0))
    return jnp.sum(hidden, axis=-1) * constants, hidden


def everywhere(function, params, rows, constants, mask, *, maps):
    return jax.vmap(function, in_axes=(None, 0, 0, 0))(params, maps, rows, constants)


def measured(apply, params, maps, rows, constants, mask, direction):
    """Values, gradients and Hessian-vector products of a scalar that all results contribute to."""

    def scalar(params, maps, rows):
        first, second = apply(function, params, rows, constants, mask, maps=maps)
        first, second = jnp.where(mask, first, 0), jnp.where(mask[..., None], second, 0)
        return jnp.sum(jnp.square(first)) + jnp.sum(second**3), (first, second)

    gradient = jax.grad(scalar, (0, 1, 2), has_aux=True)
    return jax.jvp(gradient, (params, maps, rows), direction)


@pytest.fixture(scope="module")
def programs():
    return [
        jax.jit(partial(measured, apply), compiler_options=QUICKLY)
        for apply in (everywhere, partial(at_marked, chunk=2))
    ]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_values_and_derivatives_are_those_of_all_rows_with_a_mask(programs, mask):
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        params, rows, constants = rng.normal(size=(3, 2)), rng.normal(size=(2, ROWS, 3)), rng.normal(size=(2, ROWS))
        maps = rng.normal(size=(2, 5, 2))
        direction = tuple(rng.normal(size=part.shape) for part in (params, maps, rows))
        want, got = (program(params, maps, rows, constants, mask, direction) for program in programs)
        for w, g in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
            assert g.dtype == jnp.float64
            np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-12)  # rounding of sums in another order


def test_results_of_other_rows_are_zero():
    mask = jnp.asarray(MASKS["some"])
    rows, maps = jnp.ones((2, ROWS, 3)), jnp.ones((2, 5, 2))
    first, second = at_marked(function, jnp.ones((3, 2)), rows, jnp.ones((2, ROWS)), mask, maps=maps, chunk=2)
    np.testing.assert_array_equal(first != 0, mask)
    np.testing.assert_array_equal(jnp.all(second != 0, axis=-1), mask)


def with_anchors(localization):
    draw = random_outputs if localization is L1 else outputs_with_layers
    outputs = draw(localization, dtype=jnp.float64)
    loss = lambda outputs, batch: objective(outputs, batch, localization, ARCH, GAINS)  # noqa: E731
    return loss, outputs, random_batch()


def with_cells(localization):
    raws, boxes, classes, mask = scene(localization.num_outputs)
    outputs = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), outputs_of(raws, localization.num_outputs))
    loss = lambda outputs, batch: objective(outputs, batch, localization, PYRAMID, LossWeights(), CenterSampling())  # noqa: E731
    return loss, outputs, batch_of(boxes, classes, mask)


def batches_of(batch):
    """The batch with all rows, some, one image's, and none; and with ignore regions over a part of the images."""
    full = batch._replace(images=None, mask=np.ones_like(batch.mask), boxes=batch.boxes + np.float32([0, 0, 4, 4]))
    region = np.zeros((len(batch.mask), 2, 4), np.float32) + np.float32([0, 0, 40, 30])
    yield full._replace(ignore=np.zeros_like(region), ignore_mask=np.zeros(region.shape[:2], bool))
    for mask in (batch.mask, batch.mask & [[True], [False]], batch.mask & False):
        yield full._replace(mask=mask, ignore=region, ignore_mask=np.zeros(region.shape[:2], bool))
    yield full._replace(ignore=region, ignore_mask=np.ones(region.shape[:2], bool))


@pytest.mark.parametrize(
    ("family", "localization"),
    [
        (with_anchors, L1),
        pytest.param(with_cells, BoxRegression(), marks=pytest.mark.slow),
        pytest.param(with_anchors, OBJECTIVES["all"], marks=pytest.mark.slow),
    ],
    ids=["anchors", "cells", "anchors, two stages, quality and UR"],
)
def test_loss_parts_and_gradients_are_those_without_compaction(monkeypatch, family, localization):
    with jax.enable_x64(True):
        loss, outputs, batch = family(localization)
        batches = [each._replace(boxes=each.boxes.astype(float)) for each in batches_of(batch)]
        found = []
        monkeypatch.setattr(compaction, "candidates", partial(int, 16))
        for few in (10_000, 0):
            monkeypatch.setattr(compaction, "few", partial(int, few))
            run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICKLY)
            jax.clear_caches()
            found.append([run(outputs, batch) for batch in batches])
        assert [result[0][1]["positives"] > 0 for result in found[0]] == [True, True, True, False, True]
        for want, got in zip(*map(jax.tree.leaves, found), strict=True):
            assert got.dtype == want.dtype
            scale = np.max(np.abs(want), initial=0) if np.all(np.isfinite(want)) else 0
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * scale)  # sums in another order
