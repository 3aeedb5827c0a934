"""VisDrone's protocol in plain Python: regions are drawn in pixels, and detections are matched one at a time. Slow."""

import math

THRESHOLDS = [round(0.5 + 0.05 * i, 2) for i in range(10)]


def pixels_inside(box, regions, size):
    """Counted and whole pixels of a box; columns and rows count from 1, as in the toolkit."""
    height, width = size
    drawn = set()
    for region in regions:
        left, top, across, down = (max(1, math.floor(side + 0.5)) for side in region)
        for column in range(left, min(width, left + across) + 1):
            for row in range(top, min(height, top + down) + 1):
                drawn.add((column, row))
    left, top, across, down = (max(1, math.floor(side + 0.5)) for side in box)
    left, top = min(left, width), min(top, height)
    counted = sum(
        (column, row) in drawn
        for column in range(left + 1, min(width, left + across) + 1)
        for row in range(top + 1, min(height, top + down) + 1)
    )
    return counted, across * down


def without_ignored(rows, regions, size):
    """Rows (left, top, width, height, …) of which less than half lies in the regions; all where there are none."""
    kept = []
    for row in rows:
        inside, whole = pixels_inside(row[:4], regions, size) if regions else (0, 1)
        if inside / whole < 0.5:
            kept.append(row)
    return kept


def common_area(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def outcomes(truth, found, threshold):
    """(score, 1 right | 0 wrong | -1 neither) of one class in one image, best score first."""
    free = [row for row in truth if row[4] != 0]
    absorbing = [row for row in truth if row[4] == 0]
    results = []
    for row in sorted(found, key=lambda row: -row[4]):
        area = row[2] * row[3]
        best, best_overlap = None, threshold
        for i, other in enumerate(free):
            common = common_area(row, other)
            overlap = common / (area + other[2] * other[3] - common) if common else 0.0
            if overlap >= best_overlap:
                best, best_overlap = i, overlap
        if best is not None:
            free.pop(best)
            results.append((row[4], 1))
        elif any(common_area(row, other) and common_area(row, other) / area >= threshold for other in absorbing):
            results.append((row[4], -1))
        else:
            results.append((row[4], 0))
    return results


def area_under(results, objects):
    right = wrong = 0
    curve = []
    for _, outcome in sorted(results, key=lambda result: -result[0]):
        right += outcome == 1
        wrong += outcome == 0
        curve.append((right / max(1, objects), right / max(1, right + wrong)))
    area = last = 0.0
    for i, (recall, _) in enumerate(curve):
        area += (recall - last) * max(precision for _, precision in curve[i:])
        last = recall
    return area


def scores(images, classes):
    """Official and macro means.

    Args:
      images: (annotations, detections, (height, width)) each; rows are left, top, width, height, score, category.
      classes: how many there are.
    """
    kept = []
    for truth, found, size in images:
        regions = [row[:4] for row in truth if row[5] == 0]
        objects = [row for row in truth if row[5] != 0]
        kept.append((without_ignored(objects, regions, size), without_ignored(found, regions, size)))
    listed, table = [], {}
    for k in range(1, classes + 1):
        listed += [k for truth, _ in kept if any(row[5] == k for row in truth)]
        objects = sum(row[5] == k for truth, _ in kept for row in truth)
        for threshold in THRESHOLDS:
            for cap in (1, 10, 100, 500):
                results = []
                for truth, found in kept:
                    of_class = [row for row in found[:cap] if row[5] == k]
                    results += outcomes([row for row in truth if row[5] == k], of_class, threshold)
                right = sum(outcome == 1 for _, outcome in results)
                table[k, threshold, f"ar{cap}"] = right / max(1, objects)
            table[k, threshold, "ap"] = area_under(results, objects)

    def mean(chosen, thresholds, what):
        values = [table[k, threshold, what] for k in chosen for threshold in thresholds]
        return sum(values) / len(values) if values else None

    expected = {}
    for prefix, chosen in (("", listed), ("macro_", sorted(set(listed)))):
        expected[f"{prefix}ap"] = mean(chosen, THRESHOLDS, "ap")
        expected[f"{prefix}ap50"] = mean(chosen, [0.5], "ap")
        expected[f"{prefix}ap75"] = mean(chosen, [0.75], "ap")
        for cap in (1, 10, 100, 500):
            expected[f"{prefix}ar{cap}"] = mean(chosen, THRESHOLDS, f"ar{cap}")
    return expected
