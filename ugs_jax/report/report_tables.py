"""Tables of report.html: key numbers, classes, sizes, throughput and environment, as printable text."""

import statistics
from typing import Any

from ugs_jax.evaluation import DEFAULT_PROTOCOL
from ugs_jax.evaluation.protocol import SizeBin
from ugs_jax.report.diagnosis import Diagnosis
from ugs_jax.report.run_log import Row, Run
from ugs_jax.report.text import printable, shortened

CLASS_COLUMNS = ("class", "objects", "AP", "AP50", "precision", "recall", "F1", "own confidence")
"""Columns of the table of classes. Without a diagnosis it has only `class` and `AP`."""
_TIMED = ("images_per_second", "host_wait_share")


def tiles(run: Run, scores: Row, diagnosis: Diagnosis | None) -> list[tuple[str, str]]:
    """Return the key numbers: label and value."""
    numbers = [(label, percent(scores.get(key))) for label, key in (("AP, %", "ap"), ("AP50, %", "ap50")) if scores]
    if diagnosis is not None:
        overall = diagnosis.overall
        numbers.append((f"highest F1, at confidence {diagnosis.confidence:.2f}", percent(overall.f1)))
        numbers += [("precision there, %", percent(overall.precision)), ("recall there, %", percent(overall.recall))]
    return numbers + throughput(run)[:1]


def class_rows(scores: Row, diagnosis: Diagnosis | None) -> list[list[str]]:
    """Return a row for each class, the most frequent first, and one for all classes; see `CLASS_COLUMNS`."""
    if diagnosis is None:
        return [[printable(key[3:]), percent(value)] for key, value in scores.items() if key.startswith("ap/")]
    by_objects = sorted(diagnosis.classes, key=lambda item: -item.objects)
    row = lambda item, ap: [  # noqa: E731
        shortened(item.name, 80),
        str(item.objects),
        percent(ap),
        *map(percent, (item.ap50, item.precision, item.recall, item.f1)),
        "–" if item.best_confidence is None else f"{item.best_confidence:.3f}",
    ]
    rows: list[list[str]] = [row(item, scores.get(f"ap/{item.name}")) for item in by_objects]
    # Over all classes, AP is their mean. AP50 of all detections together would be another number.
    return [*rows, row(diagnosis.overall._replace(ap50=scores.get("ap50")), scores.get("ap"))]


def size_rows(scores: Row, diagnosis: Diagnosis | None) -> list[dict[str, Any]]:
    """Return a row for each size bin, with the widths of its bars in %."""
    counts = {} if diagnosis is None else {size.name: size for size in diagnosis.sizes}
    bins = {size.name: size for size in DEFAULT_PROTOCOL.size_bins}
    bins |= {size.name: SizeBin(size.name, size.low, size.high) for size in counts.values()}
    rows = []
    for name, size in bins.items():
        count, ap = counts.get(name), scores.get(f"ap_{name}")
        found = count.found / count.objects if count is not None and count.objects else None
        if count is not None or ap is not None:
            rows.append(
                {
                    "name": printable(size.describe()),
                    "objects": "–" if count is None else str(count.objects),
                    "ap": percent(ap),
                    "ap_width": f"{100 * (ap or 0):.1f}",
                    "found": percent(found),
                    "found_width": f"{100 * (found or 0):.1f}",
                }
            )
    return rows


def throughput(run: Run) -> list[tuple[str, str]]:
    """Return the throughput of training, and what was left out: label and value."""
    rows = run.metrics.timing
    values = {key: [row[key] for row in rows if row.get(key) is not None] for key in _TIMED}
    late = {key: statistics.median(found[len(found) // 2 :]) for key, found in values.items() if found}
    table = []
    if "images_per_second" in late:
        table.append(("training, images per second", f"{late['images_per_second']:.3g}"))
    if "host_wait_share" in late:
        table.append(("waiting for data", f"{100 * late['host_wait_share']:.0f} %"))
    for key, label in (("dropped_boxes", "boxes beyond max_boxes"), ("unreadable_images", "unreadable images")):
        if rows and rows[-1].get(key):
            table.append((label, str(rows[-1][key])))
    return table


def environment(run: Run) -> list[tuple[str, str]]:
    """Return the recorded environment and versions: label and value."""
    parts = [run.config.get("environment"), run.config.get("versions")]
    found = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
    return [(printable(str(key)), printable(str(value))) for key, value in found.items()]


def percent(value: float | None) -> str:
    """Return a share in % with one digit, or a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"
