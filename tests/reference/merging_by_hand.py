"""Merging detections one at a time, in Python floats: the independent reference for `ugs_jax.inference`."""

import math

from tests.reference.boxes_by_hand import area, enclosing_box, intersection, iou


def ios(a, b):
    smaller = min(area(a), area(b))
    return intersection(a, b) / smaller if smaller > 0 else 0.0


METRICS = {"iou": iou, "ios": ios}


def groups(items, metric, threshold, allowed):
    """Lists of indices, the leader first. An item is (box, score, label, cut)."""
    rank = lambda i: items[i][1] / 2 if items[i][3] else items[i][1]  # noqa: E731
    left = sorted(range(len(items)), key=lambda i: (-rank(i), i))
    found = []
    while left:
        best = left.pop(0)
        led = [
            i
            for i in left
            if items[i][2] == items[best][2]
            and METRICS[metric](items[best][0], items[i][0]) > threshold
            and allowed(items[best], items[i])
        ]
        left = [i for i in left if i not in led]
        found.append([best, *led])
    return found


def suppressed(items, metric, threshold):
    """Indices of the leaders."""
    return [group[0] for group in groups(items, metric, threshold, lambda *_: True)]


def merged(items, metric, threshold):
    """Items after merging until nothing changes; `cut` None for all items is one round in which every box extends."""
    known = all(item[3] is not None for item in items)
    found = one_round(items, metric, threshold, known, lambda *_: True)
    while known:
        again = one_round(found, metric, threshold, known, lambda a, b: a[3] or b[3])
        if len(again) == len(found):
            break
        found = again
    return found


def one_round(items, metric, threshold, known, allowed):
    joined = []
    for leader, *others in groups(items, metric, threshold, allowed):
        box, score, label, cut = items[leader]
        for other in others:
            score = max(score, items[other][1])
            if not known or items[leader][3]:
                box = enclosing_box(box, items[other][0])
            cut = cut and items[other][3]
        joined.append((box, score, label, cut))
    return joined


def fused(views, threshold):
    """Weighted box fusion of lists of (box, score, label)."""
    clusters = []
    for box, score, label in sorted((item for view in views for item in view), key=lambda item: -item[1]):
        best, overlap = None, threshold
        for cluster in clusters:
            if cluster[0][2] == label and iou(mean(cluster), box) > overlap:
                best, overlap = cluster, iou(mean(cluster), box)
        if best is None:
            clusters.append([(box, score, label)])
        else:
            best.append((box, score, label))
    n = len(views)
    return [(mean(c), sum(item[1] for item in c) / len(c) * min(len(c), n) / n, c[0][2]) for c in clusters]


def mean(cluster):
    total = sum(score for _, score, _ in cluster)
    return [sum(box[k] * score for box, score, _ in cluster) / total for k in range(4)]


def voted(box, neighbours, deviations, sigma):
    """A box after variance voting of all neighbours that overlap it."""
    sides = []
    for k in range(4):
        above = below = 0.0
        for other, deviation in zip(neighbours, deviations, strict=True):
            if iou(box, other) > 0:
                weight = math.exp(-((1 - iou(box, other)) ** 2) / sigma) / deviation[k] ** 2
                above, below = above + weight * other[k], below + weight
        sides.append(above / below if below else box[k])
    return sides


def voted_by_score(box, neighbours, scores, sigma):
    """A box after all neighbours that overlap it have voted with their scores."""
    sides = []
    for k in range(4):
        above = below = 0.0
        for other, score in zip(neighbours, scores, strict=True):
            if iou(box, other) > 0:
                weight = math.exp(-((1 - iou(box, other)) ** 2) / sigma) * score
                above, below = above + weight * other[k], below + weight
        sides.append(above / below if below else box[k])
    return sides
