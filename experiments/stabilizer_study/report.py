"""Tables and figure of the study, from the output files of its parts.

    python -m experiments.stabilizer_study.report --boxes runs/stabilizer_boxes*.json --toy runs/stabilizer_toy.json \
      --detector runs/stabilizer_detector.jsonl --figure experiments/results/figures/stabilizer_boxes.png

The command prints Markdown. The last line is JSON with the number of rows that were read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from experiments.stabilizer_study.boxes import SIZES, TARGET
from experiments.stabilizer_study.detector import read, summary
from ugs_jax.report.plots.axes import EndLabel, add_axes, label_ends, label_width, save, style_axes
from ugs_jax.report.plots.colors import INK, MUTED, line_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = ("L2 px", "CIoU px", "CIoU offsets", "UGS logits")
SHOWN = {
    "plain": "plain",
    "per box": "stabilize_loss",
    "global, half": "HVP every step, c = ½",
    "global, every 10": "HVP every 10, c = 1",
    "per box, value": "by value, per box",
}
_PLOT = (3.6, 2.5)  # inches


@dataclass(frozen=True)
class Files:
    """Input and output files.

    Attributes:
      boxes: Output files of `boxes`. Their rows are merged.
      toy: Output file of `toy`.
      detector: Output file of `detector`.
      figure: File for the figure, which shows the rows of SGD.
    """

    boxes: tuple[Path, ...] = ()
    toy: Path | None = None
    detector: Path | None = None
    figure: Path | None = None


def rate_range(rates: dict[str, Any]) -> str:
    """Return a range as text, `low to high (width)`, with ≤ or ≥ if no lower or higher rate was tried."""
    if rates["low"] is None:
        return "none"
    low, high = f"{rates['low']:.2g}", f"{rates['high']:.2g}"
    return f"{'≤ ' * rates['open_below']}{low} to {'≥ ' * rates['open_above']}{high} ({width(rates)})"


def upper_end(rates: dict[str, Any]) -> str:
    """Return the highest rate of a range as text."""
    return "none" if rates["high"] is None else f"{'≥ ' * rates['open_above']}{rates['high']:.2g}"


def overview_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a line for each problem and a column for each arm.

    A cell has the width of the range that reaches the target and, in brackets, the highest stable rate.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = ["| | " + " | ".join(arms) + " |", "|---|" + "---:|" * len(arms)]
    by_key = {(row["problem"], row["optimizer"], row["arm"]): row for row in rows}
    for problem, optimizer in dict.fromkeys((row["problem"], row["optimizer"]) for row in rows):
        by_arm = [by_key.get((problem, optimizer, arm)) for arm in arms]
        cells = ["" if row is None else f"{width(row['reaches'])} ({upper_end(row['stable'])})" for row in by_arm]
        lines.append(f"| {problem}, {optimizer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def width(rates: dict[str, Any]) -> str:
    """Return the width of a range as text."""
    if rates["low"] is None:
        return "none"
    return f"{'≥ ' if rates['open_below'] or rates['open_above'] else ''}{rates['width']:.2g}"


def boxes_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a line for every problem, optimizer and arm."""
    sizes = " · ".join(f"{size:g}" for size in SIZES)
    lines = [
        f"| | optimizer | arm | stable up to | reaches (width) | best: steps to IoU {TARGET} by size, {sizes} px |",
        "|---|---|---|---:|---:|---|",
    ]
    for row in rows:
        steps = " · ".join("–" if x is None else str(x) for x in row["steps_by_size"])
        failing = "(does not reach) " if row["reaches"]["low"] is None else ""
        lines.append(
            f"| {row['problem']} | {row['optimizer']} | {row['arm']} | {upper_end(row['stable'])} "
            f"| {rate_range(row['reaches'])} | {failing}{row['best_rate']:.2g}: {steps} |"
        )
    return "\n".join(lines)


def toy_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a line for every function and arm, and columns for each optimizer."""
    optimizers = list(dict.fromkeys(row["optimizer"] for row in rows))
    heading = " | ".join(f"{name}: stable up to | reaches (width), fewest steps" for name in optimizers)
    lines = [f"| | arm | {heading} |", "|---|---|" + "---:|---|" * len(optimizers)]
    by_key = {(row["problem"], row["arm"], row["optimizer"]): row for row in rows}
    for problem, arm in dict.fromkeys((row["problem"], row["arm"]) for row in rows):
        cells = []
        for optimizer in optimizers:
            row = by_key[problem, arm, optimizer]
            steps = "" if row["steps"] is None else f", {row['steps']}"
            cells += [upper_end(row["stable"]), rate_range(row["reaches"]) + steps]
        lines.append(f"| {problem} | {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def detector_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table of AP, with a line for each objective, optimizer and stabilizer.

    It has a column for each factor of the learning rate.
    """
    groups = summary(list(rows))
    factors = sorted({row["factor"] for row in rows})
    lines = [
        "| AP, % | " + " | ".join(f"{factor:g}×" for factor in factors) + " |",
        "|---|" + "---:|" * len(factors),
    ]
    for name in dict.fromkeys("{method} {optimizer} {member}".format(**row) for row in rows):
        cells = [_cell(groups.get(f"{name} {factor:g}")) for factor in factors]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(group: dict[str, Any] | None) -> str:
    if group is None:
        return ""
    spread = "" if group["spread"] is None else f" ± {100 * group['spread']:.1f}"
    broken = f", {group['broken']} broken" if group["broken"] else ""
    return f"{100 * group['ap']:.1f}{spread} (n={group['runs']}{broken})"


def plot(results: Sequence[dict[str, Any]], path: Path) -> Path:
    """Plot the lowest IoU of any size after the descent over the learning rate, with a panel for each of `PANELS`."""
    from matplotlib.figure import Figure

    margin = 1.0 + label_width(SHOWN.values())
    figure = Figure(figsize=(2 * (_PLOT[0] + margin), 2 * (_PLOT[1] + 1.0) + 0.3), dpi=100)
    for i, problem in enumerate(PANELS):
        left, bottom = 0.6 + (i % 2) * (_PLOT[0] + margin), 0.85 + (1 - i // 2) * (_PLOT[1] + 1.0)
        curves = {
            row["arm"]: (result["rates"], row["worst_iou"])
            for result in results
            for row in result["rows"]
            if (row["problem"], row["optimizer"]) == (problem, "SGD")
        }
        _panel(figure, (left, bottom), problem, curves)
    note = f"Lowest mean IoU of any size from 4 to 256 px at the end, over the learning rate. Dotted line: {TARGET}."
    figure.text(0.02, 0.02, note, fontsize=9.5, color=MUTED, va="bottom")
    return save(figure, path)


def _panel(figure: "Figure", place: tuple[float, float], title: str, curves: dict[str, Any]) -> None:
    axes = add_axes(figure, *place, *_PLOT)
    axes.axhline(TARGET, color=MUTED, linewidth=1, linestyle=(0, (1.5, 2)))
    labels = []
    for i, (arm, text) in enumerate(SHOWN.items()):
        if arm in curves:
            rates, worst = curves[arm]
            color, dash = (INK, "-") if i == 0 else line_style(i - 1)
            axes.plot(rates, worst, color=color, linestyle=dash, linewidth=1.8, zorder=4 if i == 0 else 3)
            labels.append(EndLabel(text, rates[-1], worst[-1], color))
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.03)
    style_axes(axes, title, "learning rate")
    label_ends(figure, axes, labels)


def main(files: Files) -> None:
    """Print the tables, plot the figure, and print one line of JSON at the end."""
    results = [json.loads(file.read_text()) for file in files.boxes]
    rows = [row for result in results for row in result["rows"]]
    toy = json.loads(files.toy.read_text())["rows"] if files.toy is not None else []
    runs = read(files.detector) if files.detector is not None else []
    for table, given in ((overview_table, rows), (boxes_table, rows), (toy_table, toy), (detector_table, runs)):
        if given:
            print(f"{table(given)}\n")
    if files.figure is not None:
        plot(results, files.figure)
    print(json.dumps({"study": "stabilizer, report", "boxes": len(rows), "toy": len(toy), "runs": len(runs)}))


if __name__ == "__main__":
    main(tyro.cli(Files, description=__doc__))
