"""Spectrum of the Hessian of a whole model's loss, from Hessian-vector products alone, through matfree.

The loss is any `loss(params, *args)` → scalar over a pytree of parameters; `args` (a batch, say) may be sharded over a
mesh: the product is then the one of the global loss. Everything can be jitted, and should be where the loss is large:

    jax.jit(lambda params, batch: spectral_density(loss, params, batch, key=jax.random.key(0)))(params, batch)

Memory: `steps` vectors of the size of the parameters, plus one Hessian-vector product. Not imported by
`ugs_jax.curvature`, which needs JAX only.
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
    """Smallest and largest eigenvalue, each with a bound: some eigenvalue lies that close to the estimate.

    Bounds count what Lanczos has left over, and rounding: ε‖H‖(√n + steps) for n parameters and the ε of their dtype.
    """

    smallest: Array
    largest: Array
    smallest_error: Array
    largest_error: Array


class Density(NamedTuple):
    """Spectral density as weighted points: weights sum to 1 a probe, so that n parameters have n eigenvalues.

    Attributes:
      eigenvalues: Ritz values of every probe, ascending, [probes, steps].
      weights: share of all eigenvalues that each stands for, [probes, steps].
      errors: Distance within which each has an eigenvalue, rounding included (see `Extremes`), [probes, steps]. Those
        of weight 0 are padding and say nothing.
    """

    eigenvalues: Array
    weights: Array
    errors: Array

    def extremes(self) -> Extremes:
        """Smallest and largest eigenvalue that any probe found."""
        low, high = jnp.argmin(self.eigenvalues[:, 0]), jnp.argmax(self.eigenvalues[:, -1])
        return Extremes(
            self.eigenvalues[low, 0], self.eigenvalues[high, -1], self.errors[low, 0], self.errors[high, -1]
        )

    def at(self, points: ArrayLike, width: Array | float) -> Array:
        """The density, 1/unit of the eigenvalues, smoothed by a Gaussian of standard deviation `width`."""
        distance = (jnp.asarray(points)[:, None, None] - self.eigenvalues) / width
        kernel = jnp.exp(-jnp.square(distance) / 2) / (width * jnp.sqrt(2 * jnp.pi))
        return jnp.sum(kernel * self.weights, axis=(1, 2)) / self.weights.shape[0]


class Estimate(NamedTuple):
    """Mean over probes and its standard error, of the same structure."""

    mean: Any
    error: Any


def extreme_eigenvalues(loss: Loss, params: Any, *args: Any, key: Array, steps: int = 32) -> Extremes:
    """Smallest and largest eigenvalue of the Hessian, by Lanczos with full reorthogonalisation.

    Args:
      loss: `loss(params, *args)` → scalar.
      params: pytree.
      *args: what else `loss` takes.
      key: of the random start.
      steps: Hessian-vector products; at most as many as parameters are used.

    Raises:
      ValueError: `steps` below 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> bowl = lambda x: 2.0 * x[0] ** 2 - 0.5 * x[1] ** 2
      >>> found = extreme_eigenvalues(bowl, jnp.zeros(2), key=jax.random.key(0))
      >>> print(found.smallest.round(3), found.largest.round(3))
      -1.0 4.0
    """
    return spectral_density(loss, params, *args, key=key, steps=steps, probes=1).extremes()


def spectral_density(loss: Loss, params: Any, *args: Any, key: Array, steps: int = 32, probes: int = 4) -> Density:
    """Spectral density of the Hessian by stochastic Lanczos quadrature.

    Args:
      loss: `loss(params, *args)` → scalar.
      params: pytree.
      *args: what else `loss` takes.
      key: of the random starts.
      steps: Hessian-vector products a probe; exact for as many distinct eigenvalues.
      probes: random starts, one after the other.

    Raises:
      ValueError: `steps` or `probes` below 1.

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
    """Trace of the Hessian by Hutchinson's estimator, with random signs.

    Args:
      loss: `loss(params, *args)` → scalar.
      params: pytree.
      *args: what else `loss` takes.
      key: of the random signs.
      probes: Hessian-vector products.

    Raises:
      ValueError: `probes` below 2, of which there is no standard error.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> bowl = lambda x: 2.0 * x[0] ** 2 - 0.5 * x[1] ** 2
      >>> print(trace(bowl, jnp.zeros(2), key=jax.random.key(0)))
      Estimate(mean=Array(3., dtype=float32), error=Array(0., dtype=float32))
    """
    return _hutchinson(stochtrace.monte_carlo_trace(), loss, params, args, key, probes)


def diagonal(loss: Loss, params: Any, *args: Any, key: Array, probes: int = 16) -> Estimate:
    """Diagonal of the Hessian by Hutchinson's estimator, with random signs; of the structure of `params`.

    Args:
      loss: `loss(params, *args)` → scalar.
      params: pytree.
      *args: what else `loss` takes.
      key: of the random signs.
      probes: Hessian-vector products.

    Raises:
      ValueError: `probes` below 2, of which there is no standard error.

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
    found = tridiagonal(lambda v: hvp(loss, params, v, *args), start)
    main, off = found.J_small
    # Once the start's Krylov space is exhausted, what follows is rounding noise blown up. Those rows are cut off, and
    # filled up with a Rayleigh quotient, which lies between the extremes and gets no weight.
    n = sum(leaf.size for leaf in jax.tree.leaves(params))
    eps = jnp.finfo(main.dtype).eps
    noise = eps * math.sqrt(n) * jax.lax.cummax(jnp.abs(main))
    goes_on = jnp.cumprod(off > noise[:-1]).astype(bool)
    alive = jnp.concatenate([jnp.ones(1, bool), goes_on])
    left_over = jnp.concatenate([off, optax.tree.norm(found.residual)[None]])
    last = alive & ~jnp.concatenate([goes_on, jnp.zeros(1, bool)])
    off = jnp.where(goes_on, off, 0)
    values, vectors = jnp.linalg.eigh(jnp.diag(jnp.where(alive, main, main[0])) + jnp.diag(off, 1) + jnp.diag(off, -1))
    errors = jnp.sum(jnp.where(last, left_over, 0)[:, None] * jnp.abs(vectors), axis=0)
    # A product with H is rounded as a sum of n terms is, √n on average, and every step of Lanczos adds to it.
    rounding = eps * (math.sqrt(n) + steps) * jnp.max(jnp.abs(values))
    return Density(values, jnp.square(vectors[0]), errors + rounding)


def _hutchinson(
    integrand: Callable[..., Any], loss: Loss, params: Any, args: tuple[Any, ...], key: Array, probes: int
) -> Estimate:
    if probes < 2:
        raise ValueError(f"probes: expected at least 2 for a standard error, got {probes}")
    estimate = stochtrace.estimator_monte_carlo(integrand, stochtrace.sampler_signs(params, num=1))
    # One probe after the other: a product with the Hessian of a detector fills the memory.
    found = jax.lax.map(lambda probe: estimate(lambda v: hvp(loss, params, v, *args), probe), _keys(key, probes))
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), found)
    error = jax.tree.map(lambda leaf: jnp.std(leaf, axis=0, ddof=1) / jnp.sqrt(probes), found)
    return Estimate(mean, error)


def _depth(steps: int, params: Any) -> int:
    if steps < 1:
        raise ValueError(f"steps: expected at least 1 Hessian-vector product, got {steps}")
    return min(steps, sum(leaf.size for leaf in jax.tree.leaves(params)))


def _keys(key: Array, probes: int) -> Array:
    if probes < 1:
        raise ValueError(f"probes: expected at least 1, got {probes}")
    return jax.random.split(key, probes)
