"""Anchors fitted to the sizes of a data set's boxes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import vq

from ugs_jax.detectors.levels import AnchorSizes


def fit_anchors(
    sizes: Float[np.ndarray, "n 2"],
    *,
    strides: Sequence[int],
    per_level: int = 3,
    reach: float = 4.0,
    seed: int = 0,
    min_side: float = 2.0,
) -> AnchorSizes:
    """Fit the anchors of every level by k-means on the log sides of the boxes whose size suits its stride.

    A box belongs to the finest level with √area < `reach` · stride, or else to the coarsest level. The published COCO
    anchors are distributed over the levels in this way. YOLOv5 clusters all boxes at once and divides the clusters
    evenly between the levels; if objects are small, coarse levels then get tiny anchors. A level without boxes gets
    squares of 2 to 3.5 strides.

    The assignment thresholds a ratio of sides, which is a distance between logarithms. Clusters in that space therefore
    need no genetic search afterwards. If there are fewer distinct sizes than anchors, shifted copies of the sizes are
    added, so that the anchors differ.

    Args:
      sizes: Box sides (w, h) in px of the network's input. Boxes with a side below `min_side` are left out.
      strides: Pixels per cell of every level, finest first.
      per_level: Number of anchors per cell.
      reach: √area, in strides, up to which a level takes boxes.
      seed: Seed of the clustering. The result is deterministic.
      min_side: Smallest box side that is used, px.

    Returns:
      For every level, finest first, `per_level` pairs (w, h) in px, sorted by area and rounded to 0.1.

    Raises:
      ValueError: No box is left.
    """
    sides = np.asarray(sizes, np.float64).reshape(-1, 2)
    sides = sides[np.all(np.isfinite(sides) & (sides >= min_side), axis=1)]
    if not len(sides):
        raise ValueError(
            f"anchors: expected boxes with both sides >= {min_side} px in the network's input, got none; "
            "use larger images, or give `anchors` by hand"
        )
    level = np.searchsorted(reach * np.asarray(strides[:-1]), np.sqrt(sides.prod(axis=1)), side="right")
    return tuple(
        _fit_level(sides[level == i], per_level, stride, np.random.default_rng((seed, i)))
        for i, stride in enumerate(strides)
    )


def _fit_level(sides: np.ndarray, count: int, stride: int, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    if not len(sides):
        return tuple((float(side), float(side)) for side in (stride * np.linspace(2, 3.5, count)).round(1))
    points = np.log(sides)
    if len(np.unique(points, axis=0)) < count:
        points = np.concatenate([points + shift for shift in np.linspace(-0.5, 0.5, count)])
    start = points[np.argsort(points.sum(1), kind="stable")[np.linspace(0, len(points) - 1, count).astype(int)]]
    start = start + rng.normal(scale=1e-3, size=start.shape)  # no two centres are equal
    centers = _cluster(points, start)
    fitted = np.exp(centers[np.argsort(centers.sum(1), kind="stable")])
    return tuple((float(w), float(h)) for w, h in np.maximum(fitted.round(1), 0.1))


def _cluster(points: np.ndarray, centers: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Run Lloyd's algorithm from given centres; a centre without points does not move."""
    for _ in range(rounds):
        nearest, _ = vq(points, centers)
        counts = np.bincount(nearest, minlength=len(centers))
        sums = np.stack([np.bincount(nearest, axis, minlength=len(centers)) for axis in points.T], axis=-1)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def best_possible_recall(
    sizes: Float[np.ndarray, "n 2"], anchors: AnchorSizes, *, anchor_ratio_threshold: float = 4.0
) -> float:
    """Return the share of boxes with an anchor within `anchor_ratio_threshold` in both sides: the highest recall.

    Args:
      sizes: Box sides (w, h), px.
      anchors: Anchors of every level, as `fit_anchors` returns them.
      anchor_ratio_threshold: Side ratio up to which an anchor may learn a box, as in `assignment.assign`.
    """
    sides = np.maximum(np.asarray(sizes, np.float64).reshape(-1, 1, 2), 1e-3)
    if not len(sides):
        return 1.0
    ratio = sides / np.asarray([pair for level in anchors for pair in level])
    worst = np.maximum(ratio, 1 / ratio).max(axis=-1)
    return float(np.mean(worst.min(axis=-1) < anchor_ratio_threshold))
