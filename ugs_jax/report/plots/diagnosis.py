"""Plots of a diagnosis: precision over recall, F1 over confidence, confusion matrix, calibration of scores."""

import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ugs_jax.report.plots.axes import PANEL, EndLabel, add_axes, label_ends, save, style_axes
from ugs_jax.report.plots.colors import GRID, INK, LINES, MUTED, ON_FILL, line_style
from ugs_jax.report.text import shortened

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ugs_jax.evaluation.reliability import Reliability
    from ugs_jax.report.diagnosis import ClassDiagnosis, Diagnosis

MOST_DRAWN = 40
"""Largest number of classes of a confusion matrix that is drawn."""
_LABELLED = 12
"""Largest number of classes that are told apart by colour and label."""
_DASHED = (0, (4.0, 3.0))
_CELL = 0.46  # inches


def plot_diagnosis(diagnosis: "Diagnosis", folder: Path) -> dict[str, Path]:
    """Write the plots of a diagnosis as PNG files, and return them by name.

    Args:
      diagnosis: Diagnosis from `diagnose`.
      folder: Folder for the files, created if it is missing.
    """
    from ugs_jax.report.plots.calibration import draw_calibration

    figures = {
        "precision_recall": draw_precision_recall(diagnosis),
        "f1": draw_f1(diagnosis),
        "reliability": draw_reliability(diagnosis.reliability),
    }
    if len(diagnosis.classes) <= MOST_DRAWN:
        figures["confusion"] = draw_confusion(diagnosis)
    if diagnosis.deviations is not None:
        figures["deviations"] = draw_calibration(diagnosis.deviations)
    return {name: save(figure, folder / f"{name}.png") for name, figure in figures.items()}


def draw_precision_recall(diagnosis: "Diagnosis") -> "Figure":
    """Return the plot of precision over recall of each class at IoU .5, with the confidence of the highest F1 marked.

    Precision is the highest at this recall or a larger one, as in average precision.
    """
    figure, axes = _panel()
    labels = []
    for item, color, dash, width, labelled in _lines(diagnosis):
        recall, precision = item.curve.recall, item.curve.envelope
        if not len(recall):
            continue
        axes.plot([0, *recall], [precision[0], *precision], color=color, linestyle=dash, linewidth=width)
        if labelled:
            ap50 = "–" if item.ap50 is None else f"{100 * item.ap50:.1f}"
            text = f"{shortened(item.name, 16)} {ap50}" if item is not diagnosis.overall else item.name
            labels.append(EndLabel(text, float(recall[-1]), float(precision[-1]), color))
    overall = diagnosis.overall
    if overall.precision is not None and overall.recall is not None:
        axes.plot([overall.recall], [overall.precision], color=INK, marker="o", markersize=6)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    style_axes(axes, "Precision over recall, with AP50 in %", "recall")
    label_ends(figure, axes, labels)
    return figure


def draw_f1(diagnosis: "Diagnosis") -> "Figure":
    """Return the plot of F1 over the confidence of each class, with the highest F1 of all classes together marked."""
    figure, axes = _panel()
    labels, top = [], 0.05
    for item, color, dash, width, labelled in _lines(diagnosis):
        curve = item.curve
        if not len(curve.f1):
            continue
        axes.plot(curve.confidence, curve.f1, color=color, linestyle=dash, linewidth=width)
        top = max(top, float(curve.f1.max()))
        if labelled:
            best = "–" if item.best_confidence is None else f"{curve.f1.max():.2f} at {item.best_confidence:.2f}"
            labels.append(EndLabel(f"{shortened(item.name, 12)} {best}", 1.0, float(curve.f1.max()), color))
    axes.axvline(diagnosis.confidence, color=MUTED, linewidth=0.9, linestyle=_DASHED)
    axes.set(xlim=(0, 1), ylim=(0, 1.08 * top))
    style_axes(axes, "F1 over confidence, with the highest F1", "confidence")
    label_ends(figure, axes, labels)
    return figure


def draw_confusion(diagnosis: "Diagnosis") -> "Figure":
    """Return the confusion matrix: numbers of objects, coloured by their share of the row."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names = [*(shortened(item.name, 16) for item in diagnosis.classes), "background"]
    counts = np.array(diagnosis.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    margin = 0.35 + 0.085 * max(len(name) for name in names)
    side = _CELL * len(names)
    figure = Figure(figsize=(max(margin + side + 0.25, 3.8), margin + side + 0.95), dpi=110)
    axes = add_axes(figure, margin + 0.1, margin + 0.2, side, side)
    title = f"Objects (rows) by detected class (columns),\nconfidence ≥ {diagnosis.confidence:.3f}"
    figure.text(0.1 / figure.get_figwidth(), 1 - 0.12 / figure.get_figheight(), title, fontsize=11, color=INK, va="top")
    for (row, column), count in np.ndenumerate(counts):
        share = float(shares[row, column])
        if count:
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=LINES[0], alpha=share, edgecolor="none"))
            color = ON_FILL if share > 0.55 else INK
            axes.text(column + 0.5, row + 0.5, _count(int(count)), ha="center", va="center", fontsize=9, color=color)
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0))
    ticks = np.arange(len(names)) + 0.5
    axes.set_xticks(ticks, names, rotation=90, parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    axes.hlines(range(len(names) + 1), 0, len(names), color=GRID, linewidth=0.6)
    axes.vlines(range(len(names) + 1), 0, len(names), color=GRID, linewidth=0.6)
    style_axes(axes, "", "detected as")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return figure


def draw_reliability(measured: "Reliability") -> "Figure":
    """Return the plot of precision over confidence. A calibrated detector lies on the diagonal."""
    figure, axes = _panel(width=3.6)
    shown = measured.count > 0
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=_DASHED)
    axes.plot(
        measured.confidence[shown], measured.precision[shown], color=LINES[0], marker="o", markersize=5, linewidth=1.9
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    style_axes(axes, f"Precision over confidence, mean gap {100 * measured.error:.1f} %", "confidence")
    return figure


class _Line(typing.NamedTuple):
    item: "ClassDiagnosis"
    color: str
    dash: typing.Any
    width: float
    labelled: bool


def _lines(diagnosis: "Diagnosis") -> list[_Line]:
    """Return how to draw the classes with objects, then all classes together. Many classes are thin and grey."""
    shown = [item for item in diagnosis.classes if item.objects]
    if len(shown) > _LABELLED:
        lines = [_Line(item, MUTED, "-", 0.6, labelled=False) for item in shown]
    else:
        styles = [line_style(k) for k, item in enumerate(diagnosis.classes) if item.objects]
        lines = [
            _Line(item, color, dash, 1.5, labelled=True) for item, (color, dash) in zip(shown, styles, strict=True)
        ]
    return [*lines, _Line(diagnosis.overall, INK, "-", 2.4, labelled=True)]


def _panel(width: float = PANEL[0] - 2.5) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, dpi=110)
    return figure, add_axes(figure, 0.6, 0.6, width, PANEL[1] - 1.05)


def _count(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 10_000 else str(count)


def most_confused(diagnosis: "Diagnosis", most: int = 5) -> Sequence[tuple[str, str, int]]:
    """Return the most frequent confusions of two classes: class of the objects, class of the detections, number.

    Args:
      diagnosis: Diagnosis.
      most: Largest number of entries.
    """
    names = [item.name for item in diagnosis.classes]
    pairs = [
        (diagnosis.confusion[row][column], row, column)
        for row in range(len(names))
        for column in range(len(names))
        if row != column and diagnosis.confusion[row][column]
    ]
    ordered = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [(names[row], names[column], count) for count, row, column in ordered[:most]]
