"""Weighted box fusion: the detections of an object in several views of an image become their mean."""

from collections.abc import Sequence

import numpy as np

from ugs_jax.evaluation.detections import ImageDetections, by_score, concatenate, take
from ugs_jax.inference.pairs import overlap_of


def weighted_box_fusion(views: Sequence[ImageDetections], *, threshold: float = 0.55) -> ImageDetections:
    """Fuse the detections of several views of an image into score-weighted means.

    Boxes are taken by falling score. Each joins the cluster of its class whose mean box it overlaps most, if their IoU
    exceeds `threshold`. Otherwise it starts a new cluster.

    Args:
      views: Detections of the same image, each view without duplicates. Detections with score 0 are left out.
      threshold: IoU above which a box joins a cluster, in [0, 1).

    Returns:
      Detections, best first. Boxes and deviations are means over each cluster, weighted by score. Scores are means,
      times the share of the views that the boxes of the cluster can come from, min(boxes, views) / views.

    Raises:
      ValueError: There is no view, or `threshold` is out of range.

    References:
      Solovyev et al., Weighted boxes fusion, Image and Vision Computing 107, 2021.
    """
    if not views:
        raise ValueError("views: expected the detections of at least one view, got none")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: expected an IoU in [0, 1), got {threshold}")
    detections = concatenate(views)
    detections = by_score(take(detections, detections.scores > 0))
    cluster, classes = _clusters(detections, threshold)
    count = len(classes)
    members = np.bincount(cluster, minlength=count)
    weight = detections.scores.astype(np.float64)
    total = np.bincount(cluster, weight, count)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = [np.bincount(cluster, weight * values[:, side], count) for side in range(4)]
        return np.stack(sums, axis=1) / total[:, None]

    scores = (total / members * np.minimum(members, len(views)) / len(views)).astype(detections.scores.dtype)
    deviation = None if detections.deviation is None else mean(detections.deviation)
    return by_score(ImageDetections(mean(detections.boxes), scores, classes, deviation))


def _clusters(detections: ImageDetections, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of every detection and the class of every cluster; the detections are sorted, best first."""
    n = len(detections.scores)
    cluster, classes, sums = np.zeros(n, np.int64), np.zeros(n, detections.classes.dtype), np.zeros((n, 5))
    mean, count = np.zeros((n, 4)), 0
    begun = {int(each): np.zeros(n, np.int64) for each in np.unique(detections.classes)}
    begun_count = dict.fromkeys(begun, 0)
    for i in range(n):
        own_class = int(detections.classes[i])
        own = begun[own_class][: begun_count[own_class]]
        overlap = overlap_of(mean[own], detections.boxes[i : i + 1], "iou")
        if len(own) and overlap.max() > threshold:
            chosen = own[np.argmax(overlap)]
        else:
            chosen = count
            begun[own_class][begun_count[own_class]], classes[count] = count, own_class
            begun_count[own_class] += 1
            count += 1
        cluster[i] = chosen
        sums[chosen] += detections.scores[i] * np.append(detections.boxes[i], 1.0)
        mean[chosen] = sums[chosen, :4] / sums[chosen, 4]
    return cluster, classes[:count]
