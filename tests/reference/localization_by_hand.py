"""Boxes from raw outputs, one anchor at a time, in Python floats: the reference for `objectives`."""

import math

from tests.reference.losses_by_hand import softmax


def sigmoid(z):
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def regression(raw, center, size, unit):
    """DETECTOR_FACTS, section A, with the centre of the cell instead of its corner."""
    gates = [2 * sigmoid(z) for z in raw]
    x, y = (c + (g - 1) * u for c, g, u in zip(center, gates[:2], unit, strict=True))
    w, h = (g * g * s for g, s in zip(gates[2:], size, strict=True))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def expected(logits, points):
    return sum(p * y for p, y in zip(softmax(logits), points, strict=True))


def rows(raw, count=4):
    bins = len(raw) // count
    return [raw[i * bins : (i + 1) * bins] for i in range(count)]


def distribution(raw, center, unit, points):
    left, top, right, bottom = (expected(row, points) for row in rows(raw))
    box = []
    for low, high in (
        (center[0] - left * unit[0], center[0] + right * unit[0]),
        (center[1] - top * unit[1], center[1] + bottom * unit[1]),
    ):
        box.append((low, high) if low <= high else ((low + high) / 2, (low + high) / 2))  # sides that cross
    (x1, x2), (y1, y2) = box
    return [x1, y1, x2, y2]


def interval(raw, center, size, unit, center_grid, size_grid):
    tx, ty, tw, th = (
        expected(row, grid) for row, grid in zip(rows(raw), [center_grid] * 2 + [size_grid] * 2, strict=True)
    )
    x, y = center[0] + tx * unit[0], center[1] + ty * unit[1]
    w, h = size[0] * math.exp(tw), size[1] * math.exp(th)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
