"""Interval labels one number at a time, in Python floats: the independent reference for `ugs_jax.labels`."""

import bisect
import math


def interval_grid(alpha, beta, n):
    """METHOD, section 2, as printed; β = 0 is the limit."""
    points = []
    for i in range(n + 1):
        y = -alpha + 2 * alpha * i / n
        if beta > 0:
            y = math.copysign(alpha * (math.exp(beta * abs(y)) - 1) / (math.exp(alpha * beta) - 1), y)
        points.append(y)
    return points


def two_hot(target, grid):
    target = min(max(target, grid[0]), grid[-1])
    right = min(max(bisect.bisect_left(grid, target), 1), len(grid) - 1)
    left = right - 1
    label = [0.0] * len(grid)
    label[left] = (grid[right] - target) / (grid[right] - grid[left])
    label[right] = 1 - label[left]
    return label
