"""YOLOv5's AutoAnchor, to repeat its experiments with its anchors; `fit_anchors` is what we advise."""

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import kmeans

from ugs_jax.detectors.anchors import best_possible_recall
from ugs_jax.detectors.architecture import AnchorSizes

_ENOUGH = 0.98


def auto_anchors(
    sizes: Float[np.ndarray, "n 2"],
    start: AnchorSizes,
    *,
    keep: bool = True,
    ratio_limit: float = 4.0,
    generations: int = 1000,
    seed: int = 0,
    min_side: float = 2.0,
) -> AnchorSizes:
    """Keep given anchors if nearly all boxes can be learned with them; else cluster all boxes and mutate.

    k-means of sides over their standard deviation, then mutations that raise the mean ratio of a box to its best
    anchor; sorted by area and dealt out evenly, finest level first. Where objects are small, that hands tiny anchors to
    coarse levels, which then find the same objects as the finer ones (duplicates within duplicates): use `fit_anchors`,
    or leave the coarsest level out.

    Args:
      sizes: box sides (w, h) in px of the network's input.
      start: anchors to begin with; levels and anchors a level are theirs.
      keep: whether `start` may be the answer. With a level P2 the reference begins with none, and always clusters.
      ratio_limit: side ratio up to which an anchor may learn a box.
      generations: mutations tried.
      seed: of clusters and mutations.
      min_side: boxes with both sides below it are left out of the clusters, and no anchor side is below it, px.

    Returns:
      As many anchors as in `start`, px; `start` itself where there are too few boxes, and, if it may be kept, where
      more than 98 % of the boxes can be learned with it or nothing better was found.

    References:
      Jocher et al., YOLOv5 v6.0 to v7.0, described from its public behaviour.
    """
    boxes = np.asarray(sizes, np.float64).reshape(-1, 2)
    boxes = boxes[np.all(np.isfinite(boxes), axis=1) & np.any(boxes >= min_side, axis=1)]
    count = sum(len(level) for level in start)
    before = best_possible_recall(boxes, start, ratio_limit=ratio_limit)
    if (keep and before > _ENOUGH) or len(np.unique(boxes, axis=0)) < count:
        return start
    rng = np.random.default_rng(seed)
    spread = boxes.std(axis=0)
    centers, _ = kmeans(boxes / spread, count, iter=30, rng=rng)
    if len(centers) < count:  # scipy leaves empty clusters out
        return start
    anchors = _mutated(centers * spread, boxes, ratio_limit, generations, min_side, rng)
    anchors = anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
    ends = np.cumsum([len(level) for level in start])[:-1]
    found = tuple(
        tuple((float(w), float(h)) for w, h in np.maximum(level.round(1), 0.1)) for level in np.split(anchors, ends)
    )
    better = best_possible_recall(boxes, found, ratio_limit=ratio_limit) > before
    return found if better or not keep else start


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
    """Mean over boxes of the least side ratio to their best anchor, 0 for those that no anchor may learn."""
    ratio = boxes[:, None] / anchors
    best = np.minimum(ratio, 1 / ratio).min(axis=-1).max(axis=-1)
    return float(np.mean(np.where(best > 1 / limit, best, 0)))
