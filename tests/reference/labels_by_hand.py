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


def label_variance(target, grid):
    """Variance of the two-hot label of a target; 0 out of the grid."""
    return sum(
        p * (y - min(max(target, grid[0]), grid[-1])) ** 2 for p, y in zip(two_hot(target, grid), grid, strict=True)
    )


def deviation(probabilities, grid):
    """Standard deviation of normal offsets whose labels average to `probabilities`, after three fixed-point steps."""
    # Five nodes of the mean over a standard normal variable: 0, ±√(5 ∓ √10).
    near, far = math.sqrt(5 - math.sqrt(10)), math.sqrt(5 + math.sqrt(10))
    of_near, of_far = (7 + 2 * math.sqrt(10)) / 60, (7 - 2 * math.sqrt(10)) / 60
    nodes = {0.0: 8 / 15, near: of_near, -near: of_near, far: of_far, -far: of_far}
    mean = sum(p * y for p, y in zip(probabilities, grid, strict=True))
    total = sum(p * (y - mean) ** 2 for p, y in zip(probabilities, grid, strict=True))
    square = total
    for _ in range(3):
        of_labels = sum(w * label_variance(mean + z * math.sqrt(square), grid) for z, w in nodes.items())
        square = max(total - of_labels, 0.0)
    return math.sqrt(square)
