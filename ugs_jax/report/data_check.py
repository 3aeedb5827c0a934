"""The report of a data check, as text in Markdown and as plain values for JSON."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from data_pipeline.check import DataCheck, Leak, SplitCheck
from data_pipeline.wording import counted, counted_reason
from ugs_jax.experiment import TargetRecall
from ugs_jax.report.markdown import table_cell

_LISTED = 5
_BAR = 30


def data_check_values(check: DataCheck, targets: TargetRecall | str) -> dict[str, Any]:
    """Return a data check as dicts and lists for JSON, with all faults and leaks.

    Args:
      check: Findings.
      targets: Recall of the targets, or the reason why it is unknown.
    """
    return {"clean": check.clean, **_plain(check), "targets": _plain(targets)}


def data_check_text(check: DataCheck, targets: TargetRecall | str) -> str:
    """Return the report of a data check in Markdown. Long lists are cut after a few entries.

    Args:
      check: Findings.
      targets: Recall of the targets, or the reason why it is unknown.
    """
    sections = [
        f"# Data check of {check.name}",
        _headline(check),
        _section("Advice", [f"- {sentence}" for sentence in check.advice]),
        _section("Faults", [line for split in check.splits for line in _faults(split)]),
        _section("Images in two splits", _leaks(check.leaks)),
        _splits(check.splits),
        _sizes(check),
        _classes(check),
        _crowding(check.splits),
        _section("Anchors and label grids", _targets(targets)),
        _section("Read in a special way", [line for split in check.splits for line in _remarks(split)]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _headline(check: DataCheck) -> str:
    faults = sum(len(split.faults) for split in check.splits)
    if check.clean:
        return "No faults, and no image in two splits."
    parts = [counted(faults, "fault")] if faults else []
    number = len(check.leaks)
    parts += [f"{counted(number, 'image')} in two splits"] if check.leaks else []
    return f"**{' and '.join(parts)}.**"


def _faults(split: SplitCheck) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for fault in split.faults:
        parts = (fault.image, fault.place, fault.message)
        by_reason.setdefault(fault.reason, []).append(": ".join(part for part in parts if part))
    lines = []
    for reason, places in sorted(by_reason.items()):
        lines += [f"- {split.split}: {len(places):,} {reason}", *_cut([place for place in places if place])]
    return lines


def _leaks(leaks: Sequence[Leak]) -> list[str]:
    lines = []
    for (split, other), group in groupby(leaks, lambda leak: (leak.split, leak.other_split)):
        found = sorted(group, key=lambda leak: -leak.correlation)
        same = sum(leak.same_pixels for leak in found)
        lines.append(
            f"- {counted(len(found), 'image')} of {split} in {other}, too: {same:,} with equal pixels, "
            f"{len(found) - same:,} nearly equal"
        )
        lines += _cut(
            f"{leak.image} and {leak.other_image}"
            + ("" if leak.same_pixels else f", correlation {leak.correlation:.3f}")
            for leak in found
        )
    return lines


def _splits(splits: Sequence[SplitCheck]) -> str:
    rows = [
        [each.split, *(f"{n:,}" for n in (each.images, each.objects, each.ignore_regions, len(each.unlabelled)))]
        for each in splits
    ]
    return _table(["split", "images", "objects", "ignore regions", "images without labels"], rows)


def _sizes(check: DataCheck) -> str:
    height, width = check.image_size
    rows = []
    for name in check.splits[0].sizes.bins:
        row = [name]
        for split in check.splits:
            share = split.sizes.bins[name] / max(1, split.objects)
            row += [f"{split.sizes.bins[name]:,}", f"{100 * share:.1f} %"]
        share = check.splits[0].sizes.bins[name] / max(1, check.splits[0].objects)
        rows.append([*row, "█" * round(_BAR * share)])
    names = [name for split in check.splits for name in (split.split, "%")]
    table = _table(["√area, px", *names, check.splits[0].split], rows)
    return f"## Sizes in a letterboxed image of {width} × {height} px\n\n{table}"


def _classes(check: DataCheck) -> str:
    sections = []
    for split in check.splits:
        rows = []
        for name in check.classes:
            bins = split.sizes.by_class[name]
            count = sum(bins.values())
            shares = [f"{100 * number / max(1, count):.0f}" for number in bins.values()]
            share = f"{100 * count / max(1, split.objects):.1f} %"
            rows.append([name, f"{count:,}", share, f"{split.sizes.images_by_class[name]:,}", *shares])
        if split.objects:
            heads = ["class", "objects", "share", "images", *(f"{name}, %" for name in split.sizes.bins)]
            sections.append(f"## Classes of {split.split}\n\n{_table(heads, rows)}")
    return "\n\n".join(sections)


def _crowding(splits: Sequence[SplitCheck]) -> str:
    rows = []
    for split in splits:
        if split.neighbours is None:
            continue
        near, counts = split.neighbours, [f"{number:.0f}" for number in split.crowding]
        rows.append(
            [
                split.split,
                " / ".join((counts[3], counts[5], counts[6])),
                f"{near.close:.2f}",
                " / ".join(f"{value:.2f}" for value in near.overlap_quantiles),
                f"{100 * near.suppressed:.1f} %",
                f"{100 * near.cut:.1f} %",
                " / ".join(f"{value:.2f}" for value in near.aspect_quantiles),
            ]
        )
    heads = [
        "split", "objects in an image: median / 95 % / most", "neighbours within √area",
        "largest IoU: 50 / 90 / 99 %", "IoU > 0.6 in a class", "cut by the border", "width / height: 1 / 50 / 99 %",
    ]  # fmt: skip
    return f"## Crowding and shapes\n\n{_table(heads, rows)}" if rows else ""


def _targets(targets: TargetRecall | str) -> list[str]:
    if isinstance(targets, str):
        return [f"- unknown: {targets}"]
    limit = f"{targets.anchor_ratio_threshold:g}"
    anchors = "; ".join(", ".join(f"{w:g}×{h:g}" for w, h in level) for level in targets.anchors)
    if targets.assigner is None:
        matches = f"match an anchor within a side ratio of {limit}"
    else:
        matches = f"choose a cell ({targets.boxes:,} boxes looked at) by {targets.assigner}"
    lines = [f"- {100 * targets.recall:.2f} % of the training boxes {matches}", f"- anchors, px, by level: {anchors}"]
    if targets.published_recall is not None:
        lines.append(f"- {100 * targets.published_recall:.2f} % match one of the published COCO anchors")
    position = "positions (cell and anchor)" if targets.assigner is None else "cells"
    lines.append(
        f"- {targets.positives:.1f} {position} learn a box on average; "
        f"{100 * targets.crowded_out:.2f} % of the boxes share every one with another box"
    )
    if targets.inside is not None:
        shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in targets.inside.items())
        lines.append(f"- targets within the range of the label grid: {shares}")
    return lines


def _remarks(split: SplitCheck) -> list[str]:
    return [f"- {split.split}: {counted_reason(count, reason)}" for reason, count in split.remarks.items()]


def _cut(places: Iterable[str]) -> list[str]:
    """Return the first entries as a nested list. Equal entries are joined."""
    counts = Counter(places)
    shown = [f"    - {place}{f' ({count} times)' if count > 1 else ''}" for place, count in counts.items()]
    more = len(shown) - _LISTED
    return shown if more <= 1 else [*shown[:_LISTED], f"    - … {more:,} more in check.json"]


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[table_cell(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _plain(value: Any) -> Any:
    """Return dataclasses and named tuples as dicts, and sequences as lists."""
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value
