"""Spectrum of the Hessian of a model's loss, from Hessian-vector products alone, with matfree.

The loss is any function `loss(params, *args)` of a pytree of parameters that returns a scalar. `args`, for example a
batch, may be sharded over a mesh: the product is then that of the global loss. All functions can be jitted, and should
be if the loss is expensive:

    jax.jit(lambda params, batch: spectral_density(loss, params, batch, key=jax.random.key(0)))(params, batch)

The memory is that of `steps` vectors of the size of the parameters and one Hessian-vector product. `ugs_jax.curvature`
does not import this module, because that package needs JAX only.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike
from matfree import decomp, stochtrace

from ugs_jax.curvature.autodiff import hvp

Loss = Callable[..., Array]


class Extremes(NamedTuple):
    """Smallest and largest eigenvalue, with error bounds: an eigenvalue lies within the bound of each estimate.

    Bounds include the residual of Lanczos and rounding, ε‖H‖(√n + steps) for n parameters and the ε of their dtype.
    """

    smallest: Array
    largest: Array
    smallest_error: Array
    largest_error: Array


class Density(NamedTuple):
    """Spectral density as weighted points.

    The weights of each probe sum to 1. For n parameters, n times a weight is a number of eigenvalues.

    Attributes:
      eigenvalues: Ritz values of every probe, ascending, [probes, steps].
      weights: Share of all eigenvalues that each Ritz value represents, [probes, steps].
      errors: Distance from each Ritz value within which an eigenvalue lies, with rounding (see `Extremes`), [probes,
        steps]. Values of weight 0 are padding.
    """

    eigenvalues: Array
    weights: Array
    errors: Array

    def extremes(self) -> Extremes:
        """Return the smallest and the largest eigenvalue over all probes."""
        low, high = jnp.argmin(self.eigenvalues[:, 0]), jnp.argmax(self.eigenvalues[:, -1])
        return Extremes(
            self.eigenvalues[low, 0], self.eigenvalues[high, -1], self.errors[low, 0], self.errors[high, -1]
        )

    def at(self, points: ArrayLike, width: Array | float) -> Array:
        """Return the density at `points`, in 1/unit of the eigenvalues.

        It is smoothed by a Gaussian of standard deviation `width`.
        """
        distance = (jnp.asarray(points)[:, None, None] - self.eigenvalues) / width
        kernel = jnp.exp(-jnp.square(distance) / 2) / (width * jnp.sqrt(2 * jnp.pi))
        return jnp.sum(kernel * self.weights, axis=(1, 2)) / self.weights.shape[0]


class Estimate(NamedTuple):
    """Mean over probes, and its standard error in the same structure."""

    mean: Any
    error: Any


def extreme_eigenvalues(loss: Loss, params: Any, *args: Any, key: Array, steps: int = 32) -> Extremes:
    """Return the smallest and the largest eigenvalue of the Hessian, by Lanczos with full reorthogonalisation.

    Args:
      loss: Function `loss(params, *args)` that returns a scalar.
      params: Pytree of parameters.
      *args: Further arguments of `loss`.
      key: Random key of the start vector.
      steps: Number of Hessian-vector products. It is reduced to the number of parameters if it is larger.

    Raises:
      ValueError: `steps` is below 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> bowl = lambda x: 2.0 * x[0] ** 2 - 0.5 * x[1] ** 2
      >>> extremes = extreme_eigenvalues(bowl, jnp.zeros(2), key=jax.random.key(0))
      >>> print(extremes.smallest.round(3), extremes.largest.round(3))
      -1.0 4.0
    """
    return spectral_density(loss, params, *args, key=key, steps=steps, probes=1).extremes()


def spectral_density(loss: Loss, params: Any, *args: Any, key: Array, steps: int = 32, probes: int = 4) -> Density:
    """Return the spectral density of the Hessian by stochastic Lanczos quadrature.

    Args:
      loss: Function `loss(params, *args)` that returns a scalar.
      params: Pytree of parameters.
      *args: Further arguments of `loss`.
      key: Random key of the start vectors.
      steps: Number of Hessian-vector products for each probe. The result is exact for that many distinct eigenvalues.
      probes: Number of random start vectors, computed one after the other.

    Raises:
      ValueError: `steps` or `probes` is below 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> bowl = lambda x: 2.0 * x[0] ** 2 - 0.5 * x[1] ** 2
      >>> density = spectral_density(bowl, jnp.zeros(2), key=jax.random.key(0))
      >>> print(density.eigenvalues[0].round(3), density.weights.sum(-1).round(3))
      [-1.  4.] [1. 1. 1. 1.]

    References:
      Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 2017; Ghorbani et al., ICML 2019, arXiv 1901.10159.
    """
    depth = _depth(steps, params)
    return jax.lax.map(lambda probe: _lanczos(loss, params, args, probe, depth), _keys(key, probes))


def trace(loss: Loss, params: Any, *args: Any, key: Array, probes: int = 16) -> Estimate:
    """Return the trace of the Hessian by Hutchinson's estimator with random signs.

    Args:
      loss: Function `loss(params, *args)` that returns a scalar.
      params: Pytree of parameters.
      *args: Further arguments of `loss`.
      key: Random key of the signs.
      probes: Number of Hessian-vector products.

    Raises:
      ValueError: `probes` is below 2, so there is no standard error.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> bowl = lambda x: 2.0 * x[0] ** 2 - 0.5 * x[1] ** 2
      >>> print(trace(bowl, jnp.zeros(2), key=jax.random.key(0)))
      Estimate(mean=Array(3., dtype=float32), error=Array(0., dtype=float32))
    """
    return _hutchinson(stochtrace.monte_carlo_trace(), loss, params, args, key, probes)


def diagonal(loss: Loss, params: Any, *args: Any, key: Array, probes: int = 16) -> Estimate:
    """Return the diagonal of the Hessian, in the structure of `params`, by Hutchinson's estimator with random signs.

    Args:
      loss: Function `loss(params, *args)` that returns a scalar.
      params: Pytree of parameters.
      *args: Further arguments of `loss`.
      key: Random key of the signs.
      probes: Number of Hessian-vector products.

    Raises:
      ValueError: `probes` is below 2, so there is no standard error.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> bowl = lambda x: 2.0 * x[0] ** 2 - 0.5 * x[1] ** 2
      >>> print(diagonal(bowl, jnp.zeros(2), key=jax.random.key(0)).mean)
      [ 4. -1.]
    """
    return _hutchinson(stochtrace.monte_carlo_diagonal(), loss, params, args, key, probes)


def _lanczos(loss: Loss, params: Any, args: tuple[Any, ...], key: Array, steps: int) -> Density:
    start = jax.tree.map(lambda leaf: leaf[0], stochtrace.sampler_normal(params, num=1)(key))
    tridiagonal = decomp.tridiag_sym(steps, reortho="full", materialize=False)
    decomposition = tridiagonal(lambda v: hvp(loss, params, v, *args), start)
    main, off = decomposition.J_small
    # Once the Krylov space of the start is exhausted, the following rows are amplified rounding noise. They are cut off
    # and replaced by a Rayleigh quotient, which lies between the extremes and has no weight.
    n = sum(leaf.size for leaf in jax.tree.leaves(params))
    eps = jnp.finfo(main.dtype).eps
    noise = eps * math.sqrt(n) * jax.lax.cummax(jnp.abs(main))
    goes_on = jnp.cumprod(off > noise[:-1]).astype(bool)
    alive = jnp.concatenate([jnp.ones(1, bool), goes_on])
    left_over = jnp.concatenate([off, optax.tree.norm(decomposition.residual)[None]])
    last = alive & ~jnp.concatenate([goes_on, jnp.zeros(1, bool)])
    off = jnp.where(goes_on, off, 0)
    values, vectors = jnp.linalg.eigh(jnp.diag(jnp.where(alive, main, main[0])) + jnp.diag(off, 1) + jnp.diag(off, -1))
    errors = jnp.sum(jnp.where(last, left_over, 0)[:, None] * jnp.abs(vectors), axis=0)
    # A product with H is rounded like a sum of n terms, √n on average, and every step of Lanczos adds rounding.
    rounding = eps * (math.sqrt(n) + steps) * jnp.max(jnp.abs(values))
    return Density(values, jnp.square(vectors[0]), errors + rounding)


def _hutchinson(
    integrand: Callable[..., Any], loss: Loss, params: Any, args: tuple[Any, ...], key: Array, probes: int
) -> Estimate:
    if probes < 2:
        raise ValueError(f"probes: expected at least 2 for a standard error, got {probes}")
    estimate = stochtrace.estimator_monte_carlo(integrand, stochtrace.sampler_signs(params, num=1))
    # Probes run one after the other, because a product with the Hessian of a detector fills the memory.
    estimates = jax.lax.map(lambda probe: estimate(lambda v: hvp(loss, params, v, *args), probe), _keys(key, probes))
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), estimates)
    error = jax.tree.map(lambda leaf: jnp.std(leaf, axis=0, ddof=1) / jnp.sqrt(probes), estimates)
    return Estimate(mean, error)


def _depth(steps: int, params: Any) -> int:
    if steps < 1:
        raise ValueError(f"steps: expected at least 1 Hessian-vector product, got {steps}")
    return min(steps, sum(leaf.size for leaf in jax.tree.leaves(params)))


def _keys(key: Array, probes: int) -> Array:
    if probes < 1:
        raise ValueError(f"probes: expected at least 1, got {probes}")
    return jax.random.split(key, probes)
