"""Every estimate against the dense Hessian it estimates."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.flags import QUICKLY, with_devices
from ugs_jax.curvature import spectrum


def regression(params, inputs, targets):
    hidden = jnp.tanh(inputs @ params["first"])
    return jnp.mean(jnp.square(hidden @ params["second"] - targets))


def problem(dtype=np.float64):
    rng = np.random.default_rng(0)
    params = {"first": rng.normal(size=(3, 6)), "second": rng.normal(size=(6, 2))}
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype), (params, rng.normal(size=(40, 3)), rng.normal(size=(40, 2)))
    )


@functools.lru_cache
def dense():
    """The Hessian of the regression in float64."""
    params, *data = problem()
    flat, unravel = ravel_pytree(params)
    quick = functools.partial(jax.jit, compiler_options=QUICKLY)
    return np.asarray(quick(jax.hessian(lambda vector: regression(unravel(vector), *data)))(flat))


def estimate(measure, loss, *arguments, key, **counts):
    """What `measure` of `spectrum` finds, as one program."""
    run = lambda key, *arguments: measure(loss, *arguments, key=key, **counts)  # noqa: E731
    return jax.jit(run, compiler_options=QUICKLY)(key, *arguments)


def quadratic(eigenvalues, dtype=np.float64):
    """A loss of prescribed spectrum, and where it is taken."""
    n = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))[0]
    matrix = jnp.asarray(basis @ np.diag(eigenvalues) @ basis.T, dtype)
    return lambda x: x @ matrix @ x / 2, jnp.zeros(n, matrix.dtype)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def test_as_many_steps_as_parameters_give_the_extreme_eigenvalues_up_to_rounding():
    found = estimate(spectrum.extreme_eigenvalues, regression, *problem(), key=jax.random.key(0), steps=50)
    wanted = np.linalg.eigvalsh(dense())
    np.testing.assert_allclose([found.smallest, found.largest], wanted[[0, -1]], rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20])
def test_after_few_steps_an_eigenvalue_lies_within_the_bound(steps):
    found = estimate(spectrum.extreme_eigenvalues, regression, *problem(), key=jax.random.key(3), steps=steps)
    eigenvalues = np.linalg.eigvalsh(dense())
    for value, bound in ((found.smallest, found.smallest_error), (found.largest, found.largest_error)):
        assert np.abs(eigenvalues - value).min() <= bound + 1e-10
    assert eigenvalues[0] - 1e-10 <= found.smallest <= found.largest <= eigenvalues[-1] + 1e-10


@pytest.mark.parametrize(
    "eigenvalues", [[5.0] * 20, [0.0] * 20, [7.0] + [0.0] * 19, [-3.0, 1.0] * 10, np.geomspace(1e-6, 1e3, 20)]
)
def test_a_start_with_an_exhausted_krylov_space_still_gives_the_extreme_eigenvalues(eigenvalues):
    loss, start = quadratic(eigenvalues)
    found = estimate(spectrum.extreme_eigenvalues, loss, start, key=jax.random.key(0), steps=20)
    assert float(found.smallest) == pytest.approx(min(eigenvalues), abs=1e-8)
    assert float(found.largest) == pytest.approx(max(eigenvalues), abs=1e-8)


def test_the_density_has_the_moments_of_the_spectrum():
    """Lanczos quadrature is exact for polynomials up to degree 2 · steps − 1, so what is left is sampling."""
    matrix = dense()
    probes = 400
    density = estimate(spectrum.spectral_density, regression, *problem(), key=jax.random.key(0), steps=8, probes=probes)
    np.testing.assert_allclose(density.weights.sum(axis=1), 1, rtol=1e-10)
    for power in (1, 2, 3):
        samples = np.sum(density.eigenvalues**power * density.weights, axis=1)
        wanted = np.trace(np.linalg.matrix_power(matrix, power)) / len(matrix)
        assert samples.mean() == pytest.approx(float(wanted), abs=5 * float(samples.std()) / np.sqrt(probes))


def test_a_smoothed_density_integrates_to_one_and_peaks_at_the_eigenvalues():
    loss, start = quadratic([-2.0] * 10 + [3.0] * 30)
    density = estimate(spectrum.spectral_density, loss, start, key=jax.random.key(0), steps=5, probes=100)
    points = np.linspace(-5, 6, 2001)
    values = np.asarray(density.at(points, width=0.1))
    assert np.trapezoid(values, points) == pytest.approx(1, abs=1e-6)
    below = points < 0
    assert points[below][values[below].argmax()] == pytest.approx(-2, abs=0.01)
    assert points[~below][values[~below].argmax()] == pytest.approx(3, abs=0.01)
    # The share of an eigenvalue of multiplicity 10 in 40 is Beta-distributed with standard deviation 0.067 a probe.
    assert np.trapezoid(values[below], points[below]) == pytest.approx(0.25, abs=5 * 0.067 / 10)


def test_trace_and_diagonal_lie_within_their_standard_errors():
    matrix = dense()
    total = estimate(spectrum.trace, regression, *problem(), key=jax.random.key(0), probes=400)
    assert float(total.mean) == pytest.approx(np.trace(matrix), abs=5 * float(total.error))
    assert 0 < total.error < abs(np.trace(matrix))
    each = estimate(spectrum.diagonal, regression, *problem(), key=jax.random.key(1), probes=400)
    assert jax.tree.structure(each.mean) == jax.tree.structure(problem()[0])
    mean, error = ravel_pytree(each.mean)[0], ravel_pytree(each.error)[0]
    assert np.all(np.abs(mean - np.diag(matrix)) <= 5 * error)
    assert np.median(error) < np.median(np.abs(np.diag(matrix)))


def test_a_diagonal_hessian_is_exact_after_two_probes():
    loss = lambda x: jnp.sum(jnp.array([1.0, -2.0, 5.0]) * jnp.square(x)) / 2  # noqa: E731
    found = estimate(spectrum.diagonal, loss, jnp.zeros(3), key=jax.random.key(0), probes=2)
    np.testing.assert_allclose(found.mean, [1, -2, 5])
    np.testing.assert_allclose(found.error, 0, atol=1e-15)


OVER_A_MESH = """
import functools, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from tests.flags import QUICKLY, with_devices
from tests.curvature.test_spectrum import problem, regression
from ugs_jax.curvature import spectrum

mesh = Mesh(np.array(jax.devices()), ("data",))
assert mesh.size == 8
key = jax.random.key(0)

@functools.partial(jax.jit, compiler_options=QUICKLY)
def measure(*arguments):
    return (
        spectrum.extreme_eigenvalues(regression, *arguments, key=key, steps=12),
        spectrum.spectral_density(regression, *arguments, key=key, steps=12, probes=2),
        spectrum.trace(regression, *arguments, key=key, probes=4),
        spectrum.diagonal(regression, *arguments, key=key, probes=4),
    )

params, *batch = problem()
sharded = jax.device_put(batch, NamedSharding(mesh, P("data")))
assert not sharded[0].is_fully_replicated
one = measure(params, *batch)
eight = measure(jax.device_put(params, NamedSharding(mesh, P())), *sharded)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), one, eight)
print("equal")
"""


@pytest.mark.slow
def test_over_a_mesh_it_is_the_spectrum_of_the_global_loss():
    run = subprocess.run(
        [sys.executable, "-c", OVER_A_MESH],
        cwd=Path(__file__).parents[2],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "1",
            "XLA_FLAGS": with_devices(8),
        },
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "equal", run.stderr


def test_single_precision_agrees_with_double():
    found = estimate(spectrum.extreme_eigenvalues, regression, *problem(np.float32), key=jax.random.key(0), steps=30)
    wanted = np.linalg.eigvalsh(dense())
    assert found.largest.dtype == np.float32
    # Backward error of Lanczos: a few ε‖H‖.
    np.testing.assert_allclose([found.smallest, found.largest], wanted[[0, -1]], atol=1e-5 * wanted[-1])


@pytest.mark.parametrize("steps", [8, 32, 64])
@pytest.mark.parametrize("n", [10, 50, 200])
@pytest.mark.parametrize(
    "eigenvalues",
    [
        lambda n: np.linspace(-1, 1, n),
        lambda n: np.geomspace(1e-3, 1e3, n),
        lambda n: np.array([-1.0] * (n // 2) + [3.0] * (n // 2)),
        lambda n: np.array([-1.0, *np.linspace(0, 0.01, n - 2), 100.0]),
    ],
)
def test_in_single_precision_the_bounds_count_rounding(eigenvalues, n, steps):
    """They used to say −0.9999984 ± 0 for −1. The matrix itself is rounded, too."""
    wanted = eigenvalues(n)
    loss, start = quadratic(wanted, np.float32)
    found = estimate(spectrum.extreme_eigenvalues, loss, start, key=jax.random.key(2), steps=steps)
    for value, bound in ((found.smallest, found.smallest_error), (found.largest, found.largest_error)):
        assert np.abs(wanted - float(value)).min() <= float(bound)
    if steps >= n:
        assert float(found.largest_error) <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectrum.extreme_eigenvalues(jnp.sum, jnp.ones(2), key=jax.random.key(0), steps=0), "steps: .* got 0"),
        (lambda: spectrum.spectral_density(jnp.sum, jnp.ones(2), key=jax.random.key(0), probes=0), "probes: .* got 0"),
        (lambda: spectrum.trace(jnp.sum, jnp.ones(2), key=jax.random.key(0), probes=1), "at least 2 .* got 1"),
    ],
)
def test_invalid_counts_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
