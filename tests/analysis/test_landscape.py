"""Tests of the spectrum and the slices of a loss, against a quadratic with a known spectrum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugs_jax.analysis.landscape import filter_normalised, landscape_of

BENDS = {"kernel": jnp.array([[1.0, 2.0], [3.0, 8.0]]), "bias": jnp.array([-0.5, 4.0])}
PARAMS = {"kernel": jnp.array([[1.0, -1.0], [2.0, 0.5]]), "bias": jnp.array([1.0, 1.0])}


def bowl(params, factor):
    terms = jax.tree.map(lambda bend, leaf: jnp.sum(bend * leaf**2) / 2, BENDS, params)
    return factor * sum(jax.tree.leaves(terms))


@pytest.fixture(scope="module")
def shown():
    return []


@pytest.fixture(scope="module")
def found(shown):
    return landscape_of(bowl, PARAMS, jnp.array(2.0), steps=10, probes=2, points=5, progress=shown.append)


def test_each_part_of_the_work_is_announced(found, shown):
    starts = [("loss and gradient", "compiling"), ("a gradient takes", "2 × 5 losses"), ("2 × 10 Hessian", "compiling")]
    assert len(shown) == len(starts)
    for line, (start, inside) in zip(shown, starts, strict=True):
        assert line.startswith(start)
        assert inside in line


def test_the_loss_is_that_of_the_parameters(found):
    assert found.loss == pytest.approx(float(bowl(PARAMS, 2.0)), rel=1e-6)
    for line in found.slices.values():
        assert line.distance[2] == 0
        assert line.loss[2] == pytest.approx(found.loss, rel=1e-6)


def test_eigenvalues_are_those_of_the_quadratic(found):
    extremes = found.density.extremes()
    assert float(extremes.smallest) == pytest.approx(-1, abs=1e-4)
    assert float(extremes.largest) == pytest.approx(16, rel=1e-5)


def test_along_the_gradient_the_loss_is_a_known_parabola(found):
    """At distance s the parameters have moved by s‖θ‖ along g/‖g‖."""
    gradient = np.concatenate([2 * np.ravel(BENDS[name] * PARAMS[name]) for name in ("kernel", "bias")])
    bends = np.concatenate([2 * np.ravel(BENDS[name]) for name in ("kernel", "bias")])
    length = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in PARAMS.values()))
    unit = gradient / np.linalg.norm(gradient)
    s = found.slices["gradient"].distance * length
    wanted = found.loss + s * (gradient @ unit) + s**2 / 2 * (unit**2 @ bends)
    np.testing.assert_allclose(found.slices["gradient"].loss, wanted, rtol=1e-5)


def test_filters_of_a_random_direction_have_the_norms_of_the_parameters():
    direction = filter_normalised(PARAMS, jax.random.key(0))
    np.testing.assert_allclose(
        np.linalg.norm(direction["kernel"], axis=0), np.linalg.norm(PARAMS["kernel"], axis=0), rtol=1e-6
    )
    np.testing.assert_array_equal(direction["bias"], 0)


def test_a_filter_of_zeros_has_direction_zero():
    direction = filter_normalised({"kernel": jnp.zeros((3, 2))}, jax.random.key(0))
    np.testing.assert_array_equal(direction["kernel"], 0)
