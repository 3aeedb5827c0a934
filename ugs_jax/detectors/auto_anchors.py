"""YOLOv5's AutoAnchor, to repeat its experiments with its anchors. For other uses, prefer `fit_anchors`."""

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import kmeans

from ugs_jax.detectors.anchors import best_possible_recall
from ugs_jax.detectors.levels import AnchorSizes

_ENOUGH = 0.98


def auto_anchors(
    sizes: Float[np.ndarray, "n 2"],
    start: AnchorSizes,
    *,
    keep: bool = True,
    anchor_ratio_threshold: float = 4.0,
    generations: int = 1000,
    seed: int = 0,
    min_side: float = 2.0,
) -> AnchorSizes:
    """Keep the given anchors if nearly all boxes can be learned with them; else cluster all boxes and mutate.

    The sides, divided by their standard deviation, are clustered by k-means. Mutations then raise the mean ratio of a
    box to its best anchor. The anchors are sorted by area and divided evenly between the levels, finest first. If
    objects are small, coarse levels then get tiny anchors and detect the same objects as the finer levels (duplicates
    within duplicates). In that case use `fit_anchors`, or leave the coarsest level out.

    Args:
      sizes: Box sides (w, h) in px of the network's input.
      start: Anchors to begin with. The result has the same numbers of levels and of anchors per level.
      keep: Allows `start` as the result. With a level P2 the reference starts without anchors, and always clusters.
      anchor_ratio_threshold: Side ratio up to which an anchor may learn a box.
      generations: Number of mutations to try.
      seed: Seed of clusters and mutations.
      min_side: Smallest anchor side, px. Boxes with both sides below it are left out of the clusters.

    Returns:
      As many anchors as in `start`, px. It is `start` itself if there are too few boxes. With `keep` it is also `start`
      if more than 98 % of the boxes can be learned with it, or if nothing better was found.

    References:
      Jocher et al., YOLOv5 v6.0 to v7.0, described from its public behaviour.
    """
    boxes = np.asarray(sizes, np.float64).reshape(-1, 2)
    boxes = boxes[np.all(np.isfinite(boxes), axis=1) & np.any(boxes >= min_side, axis=1)]
    count = sum(len(level) for level in start)
    before = best_possible_recall(boxes, start, anchor_ratio_threshold=anchor_ratio_threshold)
    if (keep and before > _ENOUGH) or len(np.unique(boxes, axis=0)) < count:
        return start
    rng = np.random.default_rng(seed)
    spread = boxes.std(axis=0)
    centers, _ = kmeans(boxes / spread, count, iter=30, rng=rng)
    if len(centers) < count:  # scipy leaves empty clusters out
        return start
    anchors = _mutated(centers * spread, boxes, anchor_ratio_threshold, generations, min_side, rng)
    anchors = anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
    ends = np.cumsum([len(level) for level in start])[:-1]
    clustered = tuple(
        tuple((float(w), float(h)) for w, h in np.maximum(level.round(1), 0.1)) for level in np.split(anchors, ends)
    )
    better = best_possible_recall(boxes, clustered, anchor_ratio_threshold=anchor_ratio_threshold) > before
    return clustered if better or not keep else start


def _mutated(
    anchors: np.ndarray, boxes: np.ndarray, limit: float, generations: int, floor: float, rng: np.random.Generator
) -> np.ndarray:
    best = _fitness(anchors, boxes, limit)
    for _ in range(generations):
        change = np.ones_like(anchors)
        while np.all(change == 1):
            chosen = rng.random(anchors.shape) < 0.9
            change = np.clip(1 + chosen * rng.random() * rng.normal(size=anchors.shape) * 0.1, 0.3, 3.0)
        tried = np.maximum(anchors * change, floor)
        fitness = _fitness(tried, boxes, limit)
        if fitness > best:
            best, anchors = fitness, tried
    return anchors


def _fitness(anchors: np.ndarray, boxes: np.ndarray, limit: float) -> float:
    """Return the mean over boxes of the least side ratio to their best anchor; 0 for boxes that no anchor may learn."""
    ratio = boxes[:, None] / anchors
    best = np.minimum(ratio, 1 / ratio).min(axis=-1).max(axis=-1)
    return float(np.mean(np.where(best > 1 / limit, best, 0)))
