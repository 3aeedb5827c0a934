"""Losses one box at a time, in Python floats, from the published formulas: the reference for `ugs_jax.losses`."""

import math

from tests.reference import boxes_by_hand as geometry
from tests.reference.labels_by_hand import two_hot


def l1(x, t):
    return sum(abs(a - b) for a, b in zip(x, t, strict=True))


def l2(x, t):
    return sum((a - b) ** 2 for a, b in zip(x, t, strict=True))


def smooth_l1(x, t, beta=1.0):
    total = 0.0
    for a, b in zip(x, t, strict=True):
        d = abs(a - b)
        total += d * d / (2 * beta) if d < beta else d - beta / 2
    return total


def iou_loss(a, b):
    return 1 - geometry.iou(a, b)


def log_iou(a, b, floor=1e-6):
    return -math.log(max(geometry.iou(a, b), floor))


def giou(a, b):
    hull = geometry.area(geometry.enclosing_box(a, b))
    return iou_loss(a, b) + (hull - geometry.union(a, b)) / hull


def diou(a, b):
    (ax, ay), (bx, by) = geometry.center(a), geometry.center(b)
    hull = geometry.enclosing_box(a, b)
    diagonal = (hull[2] - hull[0]) ** 2 + (hull[3] - hull[1]) ** 2
    return iou_loss(a, b) + ((ax - bx) ** 2 + (ay - by) ** 2) / diagonal


def aspect(a, b):
    return 4 / math.pi**2 * (math.atan((a[2] - a[0]) / (a[3] - a[1])) - math.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2


def aspect_weight(a, b):
    v = aspect(a, b)
    return v / (v - geometry.iou(a, b) + 1 + 1e-7)


def ciou(a, b, weight=None):
    """`weight` is the α of the paper, a constant for the gradient; from the boxes themselves by default."""
    return diou(a, b) + (aspect_weight(a, b) if weight is None else weight) * aspect(a, b)


def nwd(a, b, constant=12.8):
    return 1 - math.exp(-_wasserstein(a, b) / constant)


def _wasserstein(a, b):
    (ax, ay), (bx, by) = geometry.center(a), geometry.center(b)
    dw, dh = (a[2] - a[0]) - (b[2] - b[0]), (a[3] - a[1]) - (b[3] - b[1])
    return math.sqrt((ax - bx) ** 2 + (ay - by) ** 2 + (dw**2 + dh**2) / 4)


def dotd(a, b, scale=12.7):
    (ax, ay), (bx, by) = geometry.center(a), geometry.center(b)
    return 1 - math.exp(-math.hypot(ax - bx, ay - by) / scale)


def softmax(logits):
    top = max(logits)
    weights = [math.exp(z - top) for z in logits]
    return [w / sum(weights) for w in weights]


def shannon(probabilities):
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def entropy(logits):
    return shannon(softmax(logits))


def entropy_gap(logits, target, grid):
    return abs(entropy(logits) - shannon(two_hot(target, grid)))


def interval_cross_entropy(logits, target, grid):
    return -sum(q * math.log(p) for p, q in zip(softmax(logits), two_hot(target, grid), strict=True) if q > 0)


def distribution_focal(logits, y):
    """DETECTOR_FACTS, section G; y below the last bin."""
    p, i = softmax(logits), math.floor(y)
    return -((i + 1 - y) * math.log(p[i]) + (y - i) * math.log(p[i + 1]))


def sigmoid_cross_entropy(z, t):
    p = 1 / (1 + math.exp(-z))
    return -t * math.log(p) - (1 - t) * math.log(1 - p)


def sigmoid_focal(z, t, alpha=0.25, gamma=2.0):
    """For hard labels, t in {0, 1}."""
    p = 1 / (1 + math.exp(-z))
    hit, weight = (p, alpha) if t == 1 else (1 - p, 1 - alpha)
    return -weight * (1 - hit) ** gamma * math.log(hit)
