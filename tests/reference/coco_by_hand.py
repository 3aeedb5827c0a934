"""COCO's evaluation in plain loops over boxes, with the changes of TinyPerson's and SODA-D's evaluators.

It is written from the descriptions of the evaluators, without code of `ugs_jax`. Annotations and detections are those
of COCO files. `marks` are the keys that make an annotation a crowd or an ignored object.
"""

import numpy as np


def overlap(found, other, crowd):
    """IoU of two boxes x, y, width, height; for crowds the share of the detection."""
    across = min(found[0] + found[2], other[0] + other[2]) - max(found[0], other[0])
    down = min(found[1] + found[3], other[1] + other[3]) - max(found[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    both, area = across * down, found[2] * found[3]
    return both / (area if crowd else area + other[2] * other[3] - both)


def match_image(objects, found, low, high, threshold, *, crowds, ignores, by_share):
    """Outcomes of the detections of one image and class, best first: `right`, `wrong` or `ignored`; objects counted."""

    def has(entry, keys):
        return any(entry.get(key) for key in keys)

    objects = [
        {
            "box": entry["bbox"],
            "area": entry["area"],
            "crowd": has(entry, crowds),
            "out": has(entry, (*crowds, *ignores)) or not low**2 <= entry["area"] <= high**2,
            "taken": False,
        }
        for entry in objects
    ]
    objects.sort(key=lambda entry: entry["out"])  # stable
    outcomes = []
    for entry in found:
        box, best, least = entry["bbox"], None, min(threshold, 1 - 1e-10)
        for other in objects:
            if other["taken"] and not other["crowd"]:
                continue
            if best is not None and not best["out"] and other["out"]:
                break
            value = overlap(box, other["box"], other["crowd"])
            if value >= least:
                least, best = value, other
        if best is None and by_share:
            shares = []
            for other in (other for other in objects if other["out"]):
                value = overlap(box, other["box"], other["crowd"])
                shares.append((value / (1 + value) * (1 + other["area"] / (box[2] * box[3])), other))
            if shares:
                share, other = max(shares, key=lambda pair: pair[0])  # the first of equals
                best = other if share >= least else None
        if best is not None:
            best["taken"] = True
            outcomes.append("ignored" if best["out"] else "right")
        else:
            outcomes.append("wrong" if low**2 <= box[2] * box[3] <= high**2 else "ignored")
    return outcomes, sum(not entry["out"] for entry in objects)


def average_precision(content, rows, category, low, high, threshold, cap, **rules):
    """AP at 101 recall points and the last recall of one class, size range and threshold; None without objects."""
    total, outcomes = 0, []
    for image in sorted(entry["id"] for entry in content["images"]):
        objects = [
            entry for entry in content["annotations"] if entry["image_id"] == image and entry["category_id"] == category
        ]
        found = [row for row in rows if row["image_id"] == image and row["category_id"] == category]
        found = sorted(found, key=lambda row: -row["score"])[:cap]
        results, count = match_image(objects, found, low, high, threshold, **rules)
        total += count
        outcomes += [(row["score"], result) for row, result in zip(found, results, strict=True)]
    if not total:
        return None
    outcomes = [result for _, result in sorted(outcomes, key=lambda pair: -pair[0]) if result != "ignored"]
    right, precision, recall = 0, [], []
    for count, result in enumerate(outcomes, start=1):
        right += result == "right"
        precision.append(right / count)
        recall.append(right / total)
    points = [
        max((p for p, r in zip(precision, recall, strict=True) if r >= point), default=0.0)
        for point in np.linspace(0, 1, 101)
    ]
    return float(np.mean(points)), recall[-1] if recall else 0.0
