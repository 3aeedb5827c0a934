"""Interval labels: grids for box parameters, two-hot targets, expectations, and grids fitted to data."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Real

from ugs_jax.numerics import Scalar, narrow, normal_quadrature, root, widen

Grid = Float[Array | np.ndarray, "points"]


def uniform_grid(alpha: Scalar, n: int) -> Float[np.ndarray, "bins"]:
    """Positions of n+1 labels, evenly spaced from −α to α.

    Args:
      alpha: Half of the range, in the unit of the offsets; > 0.
      n: Number of intervals; ≥ 1.

    Returns:
      A NumPy constant, so that it is static under `jax.jit`.

    Raises:
      ValueError: `alpha` or `n` is out of range.

    Example:
      >>> print(uniform_grid(2, 4))
      [-2. -1.  0.  1.  2.]
    """
    return interval_grid(alpha, 0.0, n)


def interval_grid(alpha: Scalar, beta: Scalar, n: int) -> Float[np.ndarray, "bins"]:
    """Positions of n+1 interval non-uniform (IN) labels from −α to α, denser near 0.

    y ← sign(y) · α · (e^{β|y|} − 1)/(e^{αβ} − 1) on the uniform y. The paper uses α=2, β=1, n=10 for the RPN and
    α=5, β=1, n=5 for the R-CNN head.

    Args:
      alpha: Half of the range, in the unit of the offsets; > 0.
      beta: Rate at which the spacing grows away from 0, per unit of the offsets; ≥ 0. With 0 the grid is uniform.
      n: Number of intervals; ≥ 1.

    Returns:
      A NumPy constant, so that it is static under `jax.jit`. It is symmetric, and contains 0 if n is even.

    Raises:
      ValueError: An argument is out of range, or β is so large that neighbours coincide in float32.

    References:
      Sun et al., Uncertainty-Aware Gradient Stabilization for Small Object Detection, ICCV 2025.

    Example:
      >>> print(interval_grid(2, 1, 4).round(3))
      [-2.    -0.538  0.     0.538  2.   ]
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha: expected a finite number > 0, got {alpha}; it is half of the grid's range")
    if not (math.isfinite(beta) and beta >= 0):
        raise ValueError(f"beta: expected a finite number >= 0, got {beta}; 0 gives the uniform grid")
    if n < 1:
        raise ValueError(f"n: expected at least 1 interval, got {n}")
    uniform = np.arange(-n, n + 1, 2) / n  # in units of α, exactly symmetric
    return checked_grid(
        np.sign(uniform) * alpha * _packed(np.abs(uniform), alpha * beta), f"lower beta={beta} or n={n}"
    )


def fit_interval_grid(
    offsets: Real[Array | np.ndarray, "..."], n: int, *, coverage: Scalar = 0.999
) -> tuple[float, float]:
    """Fit α and β of `interval_grid` to a sample of targets.

    α is the `coverage` quantile of |T|. β ≥ 0 is the least-squares fit of the grid points to the quantiles of |T| at
    equal shares, so that all intervals contain about the same number of targets.

    Args:
      offsets: Targets T of one box parameter, or of several that share a grid; any shape, at least one not 0.
      n: Number of intervals. With n ≤ 2 no point is free to move and β is 0.
      coverage: Share of the targets inside the range, in (0, 1].

    Returns:
      Pair (alpha, beta). It is deterministic.

    Raises:
      ValueError: Targets are missing, not finite or all 0, or `n` or `coverage` is out of range.
    """
    sizes = np.abs(_sample(offsets, n, coverage))
    alpha = float(np.quantile(sizes, coverage))
    if alpha <= 0:
        raise ValueError(
            f"offsets: {coverage:.1%} of {sizes.size} targets are 0, which gives no range; set alpha by hand"
        )
    share = np.arange(n % 2, n, 2) / n  # the free points of one half: 0 and α are fixed
    share = share[share > 0]
    if share.size == 0:
        return alpha, 0.0
    wanted = np.quantile(sizes, share * coverage) / alpha
    packing = np.linspace(0.0, _MAX_PACKING, 3001)
    error = [np.sum((_packed(share, value) - wanted) ** 2) for value in packing]
    return alpha, float(packing[int(np.argmin(error))]) / alpha


def quantile_grid(
    offsets: Real[Array | np.ndarray, "..."], n: int, *, coverage: Scalar = 0.999, uniform_share: Scalar = 0.1
) -> Float[np.ndarray, "bins"]:
    """Adaptive grid: n+1 points at quantiles of a sample of targets, so that every interval has an equal share.

    Args:
      offsets: Targets of one box parameter, or of several that share a grid; any shape, not all equal.
      n: Number of intervals; ≥ 1.
      coverage: Share of the targets inside the range, in (0, 1]. One half of the others lies beyond each end.
      uniform_share: Weight, in (0, 1], of the uniform grid over the same range, which keeps neighbours apart.

    Returns:
      A NumPy constant, in general not symmetric.

    Raises:
      ValueError: Targets are missing, not finite or all equal, or another argument is out of range.
    """
    sample = _sample(offsets, n, coverage)
    if not 0 < uniform_share <= 1:
        raise ValueError(f"uniform_share: expected a number in (0, 1], got {uniform_share}")
    tail = (1 - coverage) / 2
    points = np.quantile(sample, np.linspace(tail, 1 - tail, n + 1))
    even = np.linspace(points[0], points[-1], n + 1)
    return checked_grid(
        (1 - uniform_share) * points + uniform_share * even, "the targets hardly differ; use interval_grid"
    )


def two_hot(offsets: Float[Array, "*batch"], grid: Grid) -> Float[Array, "*batch bins"]:
    """Labels with weight on the two grid points around each offset, so that their expectation is the offset.

    Args:
      offsets: Target offsets in the unit of `grid`. They are clipped to its range.
      grid: Strictly increasing label positions.

    Returns:
      Probabilities. All but two neighbouring ones are exactly 0. Sun et al., ICCV 2025.

    Raises:
      ValueError: `grid` has fewer than two points, or it is a NumPy constant that does not increase.

    Example:
      >>> import jax.numpy as jnp
      >>> print(two_hot(jnp.array([0.25, 9.0]), uniform_grid(1, 2)))
      [[0.   0.75 0.25]
       [0.   0.   1.  ]]
    """
    if isinstance(grid, np.ndarray):
        checked_grid(grid)
    if grid.shape[0] < 2:
        raise ValueError(f"grid: expected at least 2 points, got {grid.shape[0]}")
    target, points = widen(offsets, jnp.asarray(grid, dtype=widen(offsets)[0].dtype))
    target = jnp.clip(target, points[0], points[-1])[..., None]
    # Share of each interval that lies below the target: 1 … 1 f 0 … 0. The label consists of its differences. All but
    # the two next to f are differences of equal numbers, so they are exactly 0.
    share = jnp.clip((target - points[:-1]) / (points[1:] - points[:-1]), 0.0, 1.0)
    filled = jnp.where(target >= points[1:], 1.0, share)  # XLA may multiply by a reciprocal, so share can miss 1
    edge = jnp.ones_like(target)
    return narrow(jnp.concatenate([edge, filled], -1) - jnp.concatenate([filled, 0 * edge], -1), offsets)


def expectation(probabilities: Float[Array, "*batch bins"], grid: Grid) -> Float[Array, "*batch"]:
    """Mean position Σ p_i y_i of distributions over a grid: the decoded offset, in the unit of the grid.

    Raises:
      ValueError: `probabilities` and `grid` have different numbers of bins.

    Example:
      >>> import jax.numpy as jnp
      >>> print(expectation(jnp.array([0.0, 0.75, 0.25]), uniform_grid(1, 2)))
      0.25
    """
    check_bins(probabilities, grid)
    (wide,) = widen(probabilities)
    # A multiplication and a sum, because a matrix product may run in reduced precision on accelerators.
    return narrow(jnp.sum(wide * jnp.asarray(grid, dtype=wide.dtype), axis=-1), probabilities)


def variance(probabilities: Float[Array, "*batch bins"], grid: Grid) -> Float[Array, "*batch"]:
    """Variance Σ p_i (y_i − Σ p_j y_j)² of distributions over a grid, in the unit of the grid squared.

    Raises:
      ValueError: `probabilities` and `grid` have different numbers of bins.

    Example:
      >>> import jax.numpy as jnp
      >>> print(variance(jnp.array([0.0, 0.5, 0.5]), uniform_grid(1, 2)))
      0.25
    """
    (wide,) = widen(probabilities)
    points = jnp.asarray(grid, dtype=wide.dtype)
    apart = points - expectation(wide, grid)[..., None]
    return narrow(jnp.sum(wide * jnp.square(apart), axis=-1), probabilities)


def deviation(probabilities: Float[Array, "*batch bins"], grid: Grid) -> Float[Array, "*batch"]:
    """Standard deviation of the offsets whose labels average to distributions over a grid, in the unit of the grid.

    A label has a variance of its own, because `two_hot` spreads an offset over two grid points. A network that is
    trained with such labels predicts their average, whose `variance` is that of the offset plus the mean variance of
    the labels. The latter is subtracted, for a normal distribution of the offset, as Sheppard's correction does for
    grouped data.

    The equation σ² = v − E[b(m + σz)] is solved by three fixed-point steps from σ² = v, with v and m the variance and
    mean of the prediction, b the variance of a label, z standard normal, and the expectation over five Gauss–Hermite
    nodes. On the paper's grid, for offsets in its inner half, the result is on average within 1 % of σ for σ from 0.1
    to 0.4, where the root of `variance` is 73 to 8 % above it. A single label has a deviation of a tenth of its
    interval on average, and of at most three tenths.

    Raises:
      ValueError: `probabilities` and `grid` have different numbers of bins.

    Example:
      >>> import jax.numpy as jnp
      >>> print(deviation(jnp.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]), uniform_grid(1, 2)).round(2))
      [0.25 1.  ]
    """
    (wide,) = widen(probabilities)
    points = jnp.asarray(grid, dtype=wide.dtype)
    mean, total = expectation(wide, grid), variance(wide, grid)
    nodes, weights = (part.tolist() for part in normal_quadrature(5))
    sigma = root(total)
    for _ in range(3):
        of_labels = [w * _label_variance(mean + z * sigma, points) for z, w in zip(nodes, weights, strict=True)]
        sigma = root(jnp.maximum(total - sum(of_labels), 0.0))
    return narrow(sigma, probabilities)


def check_bins(scores: Float[Array, "*batch bins"], grid: Grid) -> None:
    """Raise ValueError unless `scores` (logits or probabilities) has one bin per grid point."""
    if scores.shape[-1:] != grid.shape:
        raise ValueError(
            f"expected one score per grid point, got {scores.shape[-1]} scores for {grid.shape[0]} points; "
            "give the head n+1 outputs per parameter"
        )


def _label_variance(offsets: Array, points: Array) -> Array:
    """Variance (t − a)(b − t) of the label of an offset t between grid points a and b; 0 out of the grid."""
    offsets = offsets[..., None]
    products = (offsets - points[:-1]) * (points[1:] - offsets)  # below 0 for all intervals but that of the offset
    return jnp.maximum(jnp.max(products, axis=-1), 0.0)


_MAX_PACKING = 30.0


def _packed(share: np.ndarray, packing: float) -> np.ndarray:
    """Return (e^{s·q} − 1)/(e^s − 1) for q in [0, 1], without overflow for large s; its limit for s → 0 is q."""
    if packing < 1e-12:
        return share
    return np.exp(packing * (share - 1)) * np.expm1(-packing * share) / np.expm1(-packing)


def checked_grid(grid: np.ndarray, fix: str = "sort it and drop duplicates") -> np.ndarray:
    """Return the grid after checking it.

    Raises:
      ValueError: The grid has fewer than two points, or they do not strictly increase in float32. The message ends with
        `fix`.
    """
    if len(grid) < 2:
        raise ValueError(f"grid: expected at least 2 points, got {len(grid)}")
    apart = np.diff(grid.astype(np.float32)) >= np.finfo(np.float32).tiny  # False for NaN as well
    if not np.all(apart):
        k = int(np.argmin(apart))
        raise ValueError(
            f"grid: expected finite points that strictly increase in float32, got point {k} at {grid[k]:g} "
            f"before point {k + 1} at {grid[k + 1]:g}; {fix}"
        )
    return grid


def _sample(offsets: Array | np.ndarray, n: int, coverage: Scalar) -> np.ndarray:
    sample = np.asarray(offsets, dtype=np.float64).ravel()
    if sample.size == 0 or not np.all(np.isfinite(sample)):
        bad = int(np.sum(~np.isfinite(sample)))
        raise ValueError(f"offsets: expected finite targets, got {sample.size} with {bad} not finite; drop those")
    if n < 1:
        raise ValueError(f"n: expected at least 1 interval, got {n}")
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage: expected a share in (0, 1], got {coverage}")
    return sample
