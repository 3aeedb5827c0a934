"""Convergence of several methods, after Fig. 2 of the paper's supplement."""

import statistics
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from ugs_jax.plotting.axes import EndLabel, add_axes, label_ends, label_width, save, style_axes
from ugs_jax.plotting.colors import INK, MUTED, line_style
from ugs_jax.report.comparison import Comparison, MethodSummary, compare
from ugs_jax.report.run_log import Run, read_groups, series

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PLOT = (6.4, 4.6)  # inches


class Curve(typing.NamedTuple):
    """A metric over epochs: mean, lowest and highest over the runs that were scored at that epoch."""

    epochs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def plot_comparison(groups: Mapping[str, Sequence[Path]], path: Path, title: str = "Validation AP by epoch, %") -> Path:
    """Draws AP by epoch, a line for each method with a band from its lowest to its highest seed.

    A dotted line marks the best AP of the baseline (of each image size), a dot where each method reaches it (the mean
    over its seeds, if all do).

    Args:
      groups: run folders by method, the baseline first.
      path: .png, .svg or .pdf.
      title: of the picture.

    Returns:
      `path`.

    Raises:
      RunError: for runs that cannot be read or fairly compared.
      ValueError: for another suffix.
    """
    from matplotlib.figure import Figure

    runs = read_groups(groups)
    comparison = compare(runs)
    labels = {method.name: _label(method) for method in comparison.methods}
    figure = Figure(figsize=(_PLOT[0] + 1.1 + label_width(labels.values()), _PLOT[1] + 1.45), dpi=120)
    axes = add_axes(figure, 0.6, 0.9, *_PLOT)
    _draw(figure, axes, runs, comparison, labels)
    style_axes(axes, title)
    note = "Band: lowest to highest seed. Dot: where the mean over seeds reaches the baseline's best, if all reach it."
    figure.text(0.02, 0.02, note, fontsize=9.5, color=MUTED, va="bottom")
    return save(figure, path)


def seed_curve(runs: Sequence[Run], key: str = "ap") -> Curve:
    """The metric at the epochs at which every run has a value.

    Args:
      runs: seeds of one method.
      key: of the evaluation rows.
    """
    tables = [dict(zip(*_rounded(series(run.metrics.evaluations, key)), strict=True)) for run in runs]
    epochs = sorted(set.intersection(*(set(table) for table in tables)))
    columns = [[table[epoch] for table in tables] for epoch in epochs]
    return Curve(epochs, [statistics.fmean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns])


def _rounded(points: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    """Epochs to a thousandth, so that equal ones computed differently meet."""
    return [round(epoch, 3) for epoch in points[0]], points[1]


def _draw(
    figure: "Figure", axes: "Axes", runs: Mapping[str, Sequence[Run]], comparison: Comparison, texts: Mapping[str, str]
) -> None:
    labels = []
    for i, method in enumerate(comparison.methods):
        target = method.target * 100
        color, dash = (INK, "-") if i == 0 else line_style(i - 1)
        if method.name == method.baseline:
            axes.axhline(target, color=MUTED, linewidth=1, linestyle=(0, (1.5, 2)))
            text = f"best of {method.name}: {target:.1f}"
            axes.annotate(text, (0, target), xytext=(4, 4), textcoords="offset points", fontsize=10, color=MUTED)
        curve = seed_curve(runs[method.name])
        mean, low, high = ([value * 100 for value in values] for values in curve[1:])
        axes.plot(curve.epochs, mean, color=color, linestyle=dash, linewidth=2.2, zorder=3)
        if len(method.seeds) > 1:
            axes.fill_between(curve.epochs, low, high, color=color, alpha=0.15, linewidth=0, zorder=2)
        if method.epochs_to_target is not None and method.name != method.baseline:
            x = method.epochs_to_target.mean
            axes.plot(x, target, "o", color=color, markersize=7, markeredgecolor="white", zorder=4)
        if curve.epochs:
            labels.append(EndLabel(texts[method.name], curve.epochs[-1], mean[-1], color))
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    label_ends(figure, axes, labels)


def _label(method: MethodSummary) -> str:
    label = f"{method.name}: best {method.scores['ap'].text(100)} (n={len(method.seeds)})"
    if method.name == method.baseline:
        return label
    if method.times_earlier is None:
        return f"{label}, {method.reached} of {len(method.seeds)} reach"
    if method.times_earlier < 1:
        return f"{label}, {1 / method.times_earlier:.2f}× later"
    return f"{label}, {method.times_earlier:.2f}× earlier"
