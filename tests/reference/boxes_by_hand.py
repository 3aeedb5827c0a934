"""Box geometry one box at a time, in Python floats: the independent reference for `ugs_jax.boxes`."""

import math


def side(low, high):
    return max(high - low, 0.0)


def area(box):
    return side(box[0], box[2]) * side(box[1], box[3])


def intersection(a, b):
    return side(max(a[0], b[0]), min(a[2], b[2])) * side(max(a[1], b[1]), min(a[3], b[3]))


def union(a, b):
    return area(a) + area(b) - intersection(a, b)


def iou(a, b):
    return intersection(a, b) / union(a, b) if union(a, b) > 0 else 0.0


def coverage(a, b):
    return intersection(a, b) / area(a) if area(a) > 0 else 0.0


def enclosing_box(a, b):
    xs, ys = [a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]
    return [min(xs), min(ys), max(xs), max(ys)]


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def encode(box, anchor_center, anchor_size, unit, floor):
    cx, cy = center(box)
    w, h = max(box[2] - box[0], floor), max(box[3] - box[1], floor)
    return [
        (cx - anchor_center[0]) / unit[0],
        (cy - anchor_center[1]) / unit[1],
        math.log(w / anchor_size[0]),
        math.log(h / anchor_size[1]),
    ]


def greedy_suppression(boxes, scores, classes, threshold, class_agnostic=False):
    """Textbook loop: take the best box left, drop what overlaps it, repeat. Returns the kept rows, best first."""
    left = sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [
            i
            for i in left
            if iou(boxes[best], boxes[i]) <= threshold or not (class_agnostic or classes[i] == classes[best])
        ]
    return kept
