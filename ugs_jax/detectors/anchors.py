"""Anchors fitted to the sizes of a data set's boxes."""

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import vq

from ugs_jax.detectors.yolov5 import AnchorSizes


def fit_anchors(
    sizes: Float[np.ndarray, "n 2"], *, levels: int, per_level: int = 3, seed: int = 0, min_side: float = 2.0
) -> AnchorSizes:
    """Cluster log sides by k-means, sort by area, deal out evenly from the finest level to the coarsest.

    Distances between logarithms are what the assignment thresholds (a ratio of sides), so clusters in that space
    need no genetic search after them. Too few distinct sizes give repeated anchors a spread of their own.

    Args:
      sizes: box sides (w, h) in px of the network's input; boxes with a side below `min_side` are left out.
      levels: pyramid levels.
      per_level: anchors a cell.
      seed: of the clustering; the result is deterministic.
      min_side: px.

    Returns:
      Per level, finest first, `per_level` pairs (w, h) in px, rounded to 0.1.

    Raises:
      ValueError: no box is left.
    """
    sides = np.asarray(sizes, np.float64).reshape(-1, 2)
    sides = sides[np.all(np.isfinite(sides) & (sides >= min_side), axis=1)]
    if not len(sides):
        raise ValueError(
            f"anchors: expected boxes with both sides >= {min_side} px in the network's input, got none; "
            "use larger images, or give `anchors` by hand"
        )
    count = levels * per_level
    points = np.log(sides)
    if len(np.unique(points, axis=0)) < count:
        points = np.concatenate([points + shift for shift in np.linspace(-0.5, 0.5, count)])
    start = points[np.argsort(points.sum(1), kind="stable")[np.linspace(0, len(points) - 1, count).astype(int)]]
    start = start + np.random.default_rng(seed).normal(scale=1e-3, size=start.shape)  # no two equal
    centers = _cluster(points, start)
    fitted = np.exp(centers[np.argsort(centers.sum(1), kind="stable")])
    split = np.maximum(fitted.round(1), 0.1).reshape(levels, per_level, 2)
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in split)


def _cluster(points: np.ndarray, centers: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Lloyd's algorithm from given centres; a centre without points stays where it is."""
    for _ in range(rounds):
        nearest, _ = vq(points, centers)
        counts = np.bincount(nearest, minlength=len(centers))
        sums = np.stack([np.bincount(nearest, axis, minlength=len(centers)) for axis in points.T], axis=-1)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def best_possible_recall(sizes: Float[np.ndarray, "n 2"], anchors: AnchorSizes, *, ratio_limit: float = 4.0) -> float:
    """Share of boxes with at least one anchor within `ratio_limit` in both sides: the recall that training can reach.

    Args:
      sizes: box sides (w, h), px.
      anchors: as `fit_anchors` returns them.
      ratio_limit: as in `assignment.assign`.
    """
    sides = np.maximum(np.asarray(sizes, np.float64).reshape(-1, 1, 2), 1e-3)
    if not len(sides):
        return 1.0
    ratio = sides / np.asarray([pair for level in anchors for pair in level])
    worst = np.maximum(ratio, 1 / ratio).max(axis=-1)
    return float(np.mean(worst.min(axis=-1) < ratio_limit))
