"""Layers that predict distributions, made from a published layer that regresses boxes or predicts distributions."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ugs_jax.numerics import normal_quadrature

_SPREAD = 0.1  # share of the mass between published points in layers made from distributions
_FALL = 4.0  # nats for each unit by which a logit falls beyond the ends of a published grid


class Expected(NamedTuple):
    """Wanted distribution of one box parameter at one anchor, as a function of the regression outputs.

    Attributes:
      points: Grid of the distribution.
      width: Standard deviation wanted, in the unit of the grid. `smooth_width` may raise it.
      outputs: Regression outputs that the mean depends on, of 0 to 3 for (x, y, w, h).
      samples: Values of these outputs.
      weights: Weight of each sample.
      means: Wanted mean at each sample, in the unit of the grid.
    """

    points: Float[np.ndarray, "bins"]
    width: float
    outputs: tuple[int, ...]
    samples: Float[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n"]
    means: Float[np.ndarray, "n"]


def layer_with_means(
    kernel: Float[np.ndarray, "c a 4"], bias: Float[np.ndarray, "a 4"], expected: Callable[[int, int], Expected]
) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
    """Return kernel and bias of a layer whose distributions have means near the expected ones.

    Args:
      kernel: The published 1×1 layer from features to (x, y, w, h) of every anchor.
      bias: Bias of the published layer.
      expected: Function from a box parameter (0 to 3) and an anchor to its wanted distribution.
    """
    parts = [
        [_logits(kernel[:, a], bias[a], expected(parameter, a)) for a in range(len(bias))] for parameter in range(4)
    ]
    kernels = [np.stack([rows for rows, _ in anchors], axis=1) for anchors in parts]
    biases = [np.stack([constants for _, constants in anchors]) for anchors in parts]
    return np.concatenate(kernels, axis=-1), np.concatenate(biases, axis=-1)


def _logits(
    kernel: Float[np.ndarray, "c 4"], bias: Float[np.ndarray, "4"], expected: Expected
) -> tuple[Float[np.ndarray, "c bins"], Float[np.ndarray, "bins"]]:
    points, outputs = expected.points, list(expected.outputs)
    width = smooth_width(points, expected.width, expected.means, expected.weights)
    basis = np.column_stack([np.ones(len(expected.samples)), expected.samples])
    level, *slopes = fit_natural_parameter(points, width, basis, expected.means, expected.weights)
    rows = np.outer(kernel[:, outputs] @ slopes, points)
    return rows, (level + bias[outputs] @ slopes) * points + bell(points, width)


def bell(points: Float[np.ndarray, "bins"], width: float) -> Float[np.ndarray, "bins"]:
    """Return the logits of a normal distribution around 0 with standard deviation `width`, discretised on a grid.

    Each point represents the interval that ends half way to its neighbours, so ln Δ is part of its logit.
    """
    edges = np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])
    return np.log(np.diff(edges)) - np.square(points) / (2 * width**2)


def bells_around(
    kernel: Float[np.ndarray, "c a 4"],
    bias: Float[np.ndarray, "a 4"],
    points: Float[np.ndarray, "bins"],
    width: float = 0.6,
) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
    """Return kernel and bias of a layer that predicts a discretised normal distribution around each output of a layer.

    Its logits at a point y are m y / width², with m the output, plus those of `bell`, so they are linear in the
    weights. On a grid of step 1, a width of 0.6 gives means within 0.004 of m. Near the ends of the grid and beyond,
    means stay inside the grid.

    Args:
      kernel: The 1×1 layer from features to the four outputs of every anchor.
      bias: Bias of the layer.
      points: Grid, in the unit of the outputs.
      width: Standard deviation of the distributions, in the unit of the outputs.
    """
    slope = points / width**2
    rows = kernel[..., None] * slope
    constants = bias[..., None] * slope + bell(points, width)
    return rows.reshape(*kernel.shape[:-1], -1), constants.reshape(*bias.shape[:-1], -1)


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
    """Return θ for which distributions with logits `bell` + (basis · θ) · points have means near the given ones.

    The mean of such a distribution is a smooth increasing function of η = basis · θ, with its variance as derivative.
    Gauss-Newton steps minimise the weighted squared error of the means.

    Args:
      points: Points of the grid.
      width: Standard deviation of the bell.
      basis: Basis functions at each sample; η is linear in them.
      means: Wanted mean of each sample, in the unit of the grid. Means outside its range are clipped to its ends.
      weights: Weight of each sample.
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

    # The steps start where a wide bell on an infinite grid has the wanted mean: η · width².
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
    """Return raw outputs of a regression layer and their weights under N(0, 1): samples on which a layer is fitted."""
    return normal_quadrature(15)


def resampled_layer(
    kernel: Float[np.ndarray, "c a published"],
    bias: Float[np.ndarray, "a published"],
    published: Float[np.ndarray, "k"],
    points: Float[np.ndarray, "bins"],
) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
    """Return kernel and bias of a layer that predicts the distributions of a published layer on another grid.

    The logit at a point is the published logit there, interpolated between the published points, plus ln Δ. It is
    linear in the weights. Beyond the published points, a logit falls by 4 nats for each unit.

    Δ is a mixture of two shares. 0.9 of the mass stays at the published points, which count as 1 each (two-hot, where
    the grid lacks the point). 0.1 is spread over the intervals that the points represent. With the intervals alone,
    a narrow peak has less mass where the grid is finer than the published one, and means move by up to 0.7 units.

    On `SIDE_POINTS`, means of published distributions with one peak move by at most 0.02 units, by at most 0.06 if a
    fifth of the mass is spread over all points, and by up to 0.2 for logits drawn at random. On a grid that lacks
    published points, peaks move by up to a half of its steps there, and mass that is spread over all points by more.

    Args:
      kernel: The published 1×1 layer from features to the logits of the four parameters of every anchor.
      bias: Bias of the published layer.
      published: Grid of the published layer, evenly spaced with step 1.
      points: Grid of the layer.
    """
    matrix = np.stack([np.interp(points, published, unit) for unit in np.eye(len(published))])
    beyond = np.abs(points - np.clip(points, published[0], published[-1]))
    rows, constants = (part.reshape(*part.shape[:-1], 4, len(published)) @ matrix for part in (kernel, bias))
    held = sum(np.interp(published, points, unit, left=0, right=0).sum() * unit for unit in np.eye(len(points)))
    constants = constants + np.log((1 - _SPREAD) * held + _SPREAD * np.gradient(points)) - _FALL * beyond
    return rows.reshape(*kernel.shape[:-1], -1), constants.reshape(*bias.shape[:-1], -1)
