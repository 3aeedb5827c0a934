"""What objectives that predict a distribution for each of the four box parameters have in common."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import losses
from ugs_jax.numerics import widen


def split_logits(raw: Float[Array, "*batch outputs"], bins: int) -> Float[Array, "*batch 4 bins"]:
    """Return raw outputs as four rows of logits, in at least float32.

    Raises:
      ValueError: `raw` does not have 4 × `bins` channels.
    """
    if raw.shape[-1] != 4 * bins:
        raise ValueError(f"raw outputs: expected 4 × {bins} channels on the last axis, got shape {raw.shape}")
    (wide,) = widen(raw)
    return wide.reshape(*raw.shape[:-1], 4, bins)


def mean_uncertainty(logits: Float[Array, "*batch 4 bins"]) -> Float[Array, "*batch"]:
    """Return the mean normalised entropy of the four distributions, in [0, 1]."""
    return jnp.mean(losses.normalised_entropy(logits), axis=-1)


def bell(points: Float[np.ndarray, "bins"], width: float) -> Float[np.ndarray, "bins"]:
    """Return logits of a normal distribution around 0 with standard deviation `width`, discretised on a grid.

    Each point stands for the interval half way to its neighbours, so ln Δ is part of its logit.
    """
    edges = np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])
    return np.log(np.diff(edges)) - np.square(points) / (2 * width**2)


def smooth_width(
    points: Float[np.ndarray, "bins"], width: float, means: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"]
) -> float:
    """Return a width of at least half the widest interval that the bulk of the means lies in.

    The mean of a narrower bell does not follow its natural parameter smoothly: it jumps from point to point.

    Args:
      points: Grid.
      width: Width wanted.
      means: Means that the bell is to have, in the unit of the grid; those beyond its range count as its ends.
      weights: Weight of each mean.
    """
    inside, share = np.clip(means, points[0], points[-1]), weights / weights.sum()
    middle = share @ inside
    reach = np.sqrt(share @ np.square(inside - middle))
    reached = (points[1:] > middle - reach) & (points[:-1] < middle + reach)
    return max(width, float(np.diff(points)[reached].max(initial=0)) / 2)


def fit_natural_parameter(
    points: Float[np.ndarray, "bins"],
    width: float,
    basis: Float[np.ndarray, "n p"],
    means: Float[np.ndarray, "n"],
    weights: Float[np.ndarray, "n"],
) -> Float[np.ndarray, "p"]:
    """Return θ for which distributions with logits `bell` + (basis · θ) · points have means near those wanted.

    The mean of such a distribution is a smooth increasing function of η = basis · θ, with its variance as derivative.
    Gauss-Newton steps minimise the weighted squared error of the means.

    Args:
      points: Grid.
      width: Standard deviation of the bell.
      basis: Numbers that η is linear in.
      means: Means wanted, in the unit of the grid; those beyond its range count as its ends.
      weights: Weight of each row.
    """
    logits = bell(points, width)
    wanted = np.clip(means, points[0], points[-1])
    root = np.sqrt(weights / weights.sum())

    def moments(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = logits + np.outer(basis @ theta, points)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = p @ points
        return mean, np.maximum(p @ np.square(points) - np.square(mean), 1e-12)

    # A wide bell on an endless grid has mean η · width²: that is where the steps start.
    theta = np.linalg.lstsq(basis * root[:, None], wanted * root / width**2, rcond=None)[0]
    mean, variance = moments(theta)
    error = np.sum(np.square(root * (wanted - mean)))
    damping = 1e-3
    for _ in range(50):
        slope = basis * (root * variance)[:, None]
        normal = slope.T @ slope
        step = np.linalg.solve(
            normal + damping * np.diag(np.maximum(np.diag(normal), 1e-12)), slope.T @ (root * (wanted - mean))
        )
        tried = theta + step
        next_mean, next_variance = moments(tried)
        next_error = np.sum(np.square(root * (wanted - next_mean)))
        if next_error < error:
            theta, mean, variance, damping = tried, next_mean, next_variance, damping / 10
            if error - next_error < 1e-12 * error:
                break
            error = next_error
        else:
            damping *= 10
            if damping > 1e9:
                break
    return np.asarray(theta)


def standard_outputs() -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Return raw outputs of a regression layer and weights, on which a layer made from it is fitted: N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    return nodes, weights / weights.sum()
