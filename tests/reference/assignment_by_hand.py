"""YOLOv5's assignment for one box, anchor and direction at a time, in Python floats: DETECTOR_FACTS, section C."""

import math


def positives(box, anchors, stride, rows, columns, limit=4.0):
    """Which (row, column, anchor) learn a box, with the offset of its centre from the centre of the cell, in cells."""
    x, y = (box[0] + box[2]) / 2 / stride, (box[1] + box[3]) / 2 / stride
    width, height = box[2] - box[0], box[3] - box[1]
    shifts = [(0.0, 0.0)]
    if x % 1 < 0.5 and x > 1:
        shifts.append((0.5, 0.0))
    if y % 1 < 0.5 and y > 1:
        shifts.append((0.0, 0.5))
    if (columns - x) % 1 < 0.5 and columns - x > 1:
        shifts.append((-0.5, 0.0))
    if (rows - y) % 1 < 0.5 and rows - y > 1:
        shifts.append((0.0, -0.5))
    found = {}
    for index, (anchor_width, anchor_height) in enumerate(anchors):
        if worst_ratio(width, anchor_width) < limit and worst_ratio(height, anchor_height) < limit:
            for dx, dy in shifts:
                column = min(max(math.floor(x - dx), 0), columns - 1)
                row = min(max(math.floor(y - dy), 0), rows - 1)
                # A centre on the line between two cells names its own cell twice.
                found[row, column, index] = (x - column - 0.5, y - row - 0.5)
    return found


def worst_ratio(side, anchor):
    return max(side / anchor, anchor / side) if side > 0 else math.inf
