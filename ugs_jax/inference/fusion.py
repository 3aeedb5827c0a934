"""Weighted box fusion: the detections of an object in several views of an image become their mean."""

from collections.abc import Sequence

import numpy as np

from ugs_jax.inference.found import Found, by_score, concatenate, take
from ugs_jax.inference.pairs import overlap_of


def weighted_box_fusion(views: Sequence[Found], *, threshold: float = 0.55) -> Found:
    """Fuse the detections of several views of an image into score-weighted means.

    Boxes are taken by falling score. Each joins the cluster of its class whose mean box it overlaps most, if their IoU
    exceeds `threshold`. Otherwise it starts a new cluster.

    Args:
      views: Detections of the same image, each view without duplicates. Detections with score 0 are left out.
      threshold: IoU above which a box joins a cluster, in [0, 1).

    Returns:
      Detections, best first. Boxes and deviations are means over each cluster, weighted by score. Scores are means,
      times the share of the views that the boxes of the cluster can come from, min(boxes, views) / views. `cut` is
      None.

    Raises:
      ValueError: There is no view, or `threshold` is out of range.

    References:
      Solovyev et al., Weighted boxes fusion, Image and Vision Computing 107, 2021.
    """
    if not views:
        raise ValueError("views: expected the detections of at least one view, got none")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: expected an IoU in [0, 1), got {threshold}")
    found = concatenate(views)
    found = by_score(take(found, found.scores > 0))
    cluster, labels = _clusters(found, threshold)
    count = len(labels)
    members = np.bincount(cluster, minlength=count)
    weight = found.scores.astype(np.float64)
    total = np.bincount(cluster, weight, count)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = [np.bincount(cluster, weight * values[:, side], count) for side in range(4)]
        return np.stack(sums, axis=1) / total[:, None]

    scores = (total / members * np.minimum(members, len(views)) / len(views)).astype(found.scores.dtype)
    deviation = None if found.deviation is None else mean(found.deviation)
    return by_score(Found(mean(found.boxes), scores, labels, deviation))


def _clusters(found: Found, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of every detection and the label of every cluster; the detections are sorted, best first."""
    n = len(found.scores)
    cluster, labels, sums = np.zeros(n, np.int64), np.zeros(n, found.labels.dtype), np.zeros((n, 5))
    mean, count = np.zeros((n, 4)), 0
    begun = {int(label): np.zeros(n, np.int64) for label in np.unique(found.labels)}
    begun_count = dict.fromkeys(begun, 0)
    for i in range(n):
        label = int(found.labels[i])
        own = begun[label][: begun_count[label]]
        overlap = overlap_of(mean[own], found.boxes[i : i + 1], "iou")
        if len(own) and overlap.max() > threshold:
            chosen = own[np.argmax(overlap)]
        else:
            chosen = count
            begun[label][begun_count[label]], labels[count] = count, label
            begun_count[label] += 1
            count += 1
        cluster[i] = chosen
        sums[chosen] += found.scores[i] * np.append(found.boxes[i], 1.0)
        mean[chosen] = sums[chosen, :4] / sums[chosen, 4]
    return cluster, labels[:count]
