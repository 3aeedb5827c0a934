"""Plot of the convergence of several methods, after Fig. 2 of the paper's supplement."""

import math
import statistics
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ugs_jax.report.comparison import Comparison, MethodSummary, compare
from ugs_jax.report.plots.axes import EndLabel, add_axes, label_ends, label_width, save, style_axes
from ugs_jax.report.plots.colors import DASHES, INK, MUTED, Dash, line_style
from ugs_jax.report.run_log import Run, read_groups, series

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PLOT = (6.4, 4.6)  # inches


_COINCIDE = 8.0  # px of the picture; dots closer than this would hide each other
_DOT, _RING = 7.0, 6.0  # pt: diameter of a dot, and increase in diameter for each ring around it


class Style(typing.NamedTuple):
    """Style of a line.

    Attributes:
      color: Colour, which stands for the method.
      dash: Dash pattern, which stands for the image size.
    """

    color: str
    dash: Dash


class Curve(typing.NamedTuple):
    """A metric over epochs, summarised over runs.

    Attributes:
      epochs: Epochs at which all runs were evaluated.
      mean: Mean over the runs.
      low: Lowest value of the runs.
      high: Highest value of the runs.
    """

    epochs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def plot_comparison(groups: Mapping[str, Sequence[Path]], path: Path, title: str = "Validation AP by epoch, %") -> Path:
    """Plot AP over epochs, with a line for each method and a band from its lowest to its highest seed.

    A dotted line marks the best AP of the baseline of each image size. A dot marks the epoch at which a method reaches
    it: the mean over its seeds, if all of them reach it. Dots at the same position are drawn as rings around each
    other. With several image sizes, a method keeps its colour at all sizes, and the dash pattern shows the size.

    Args:
      groups: Run folders by method, the baseline first.
      path: File ending in .png, .svg or .pdf.
      title: Title of the plot.

    Returns:
      `path`.

    Raises:
      RunError: Runs cannot be read, or cannot be compared fairly.
      ValueError: The suffix of `path` is not supported.
    """
    from matplotlib.figure import Figure

    runs = read_groups(groups)
    comparison = compare(runs)
    texts = [text for method in comparison.methods for text in (_label(method), _target_label(method))]
    figure = Figure(figsize=(_PLOT[0] + 1.1 + label_width(texts), _PLOT[1] + 1.45), dpi=120)
    axes = add_axes(figure, 0.6, 0.9, *_PLOT)
    _draw(figure, axes, runs, comparison)
    style_axes(axes, title)
    figure.text(0.02, 0.02, _note(runs), fontsize=9.5, color=MUTED, va="bottom")
    return save(figure, path)


def line_styles(runs: Mapping[str, Sequence[Run]]) -> dict[str, Style]:
    """Return the line style of each method. The line of the baseline has the colour of text.

    Methods at two image sizes share a colour if they have the same objective and network. Two methods at one image
    size never share a colour.

    Args:
      runs: Runs by method, the baseline first.
    """
    sizes = _sizes(runs)
    if len(sizes) < 2:
        numbered = enumerate(runs)
        return {name: Style(INK, DASHES[0]) if i == 0 else Style(*line_style(i - 1)) for i, name in numbered}
    seen: Counter[tuple[str, ...]] = Counter()
    colors: dict[tuple[str, ...], str] = {}
    styles = {}
    for name, members in runs.items():
        config, size = members[0].config, members[0].image_size
        method = (str(config.get("localization")), str(config.get("network")))
        seen[*method, size] += 1
        key = (*method, str(seen[*method, size]))
        color = colors.setdefault(key, line_style(len(colors) - 1)[0] if colors else INK)
        styles[name] = Style(color, DASHES[sizes.index(size) % len(DASHES)])
    return styles


def seed_curve(runs: Sequence[Run], key: str = "ap") -> Curve:
    """Return a metric at the epochs at which every run has a value.

    Args:
      runs: Runs of one method with different seeds.
      key: Name of the metric in the evaluation rows.
    """
    tables = [dict(zip(*_rounded(series(run.metrics.evaluations, key)), strict=True)) for run in runs]
    epochs = sorted(set.intersection(*(set(table) for table in tables)))
    columns = [[table[epoch] for table in tables] for epoch in epochs]
    return Curve(epochs, [statistics.fmean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns])


def _rounded(points: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    """Round epochs to a thousandth, so that equal epochs that were computed differently match."""
    return [round(epoch, 3) for epoch in points[0]], points[1]


def _sizes(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    return list(dict.fromkeys(members[0].image_size for members in runs.values()))


def _note(runs: Mapping[str, Sequence[Run]]) -> str:
    """Return the explanation of bands, dots and dashes."""
    note = (
        "Band: lowest to highest seed. Dot: mean epoch at which the seeds reach the baseline's best, if all reach it."
    )
    sizes = _sizes(runs)
    if len(sizes) < 2:
        return note
    kinds = ("solid", "dashed", "dotted")
    named = ", ".join(f"{size} px {kinds[i % len(kinds)]}" for i, size in enumerate(sizes))
    return f"{note}\nA method has one colour at all image sizes: {named}."


def _draw(figure: "Figure", axes: "Axes", runs: Mapping[str, Sequence[Run]], comparison: Comparison) -> None:
    styles = line_styles(runs)
    labels: list[EndLabel] = []
    dots: list[tuple[float, float, str]] = []
    for method in comparison.methods:
        target, (color, dash) = method.target * 100, styles[method.name]
        if method.name == method.baseline:
            axes.axhline(target, color=MUTED, linewidth=1, linestyle=(0, (1.5, 2)))
        curve = seed_curve(runs[method.name])
        mean, low, high = ([value * 100 for value in values] for values in curve[1:])
        axes.plot(curve.epochs, mean, color=color, linestyle=dash, linewidth=2.2, zorder=3)
        if len(method.seeds) > 1:
            axes.fill_between(curve.epochs, low, high, color=color, alpha=0.15, linewidth=0, zorder=2)
        if method.epochs_to_target is not None and method.name != method.baseline:
            dots.append((method.epochs_to_target.mean, target, color))
        if curve.epochs:
            labels.append(EndLabel(_label(method), curve.epochs[-1], mean[-1], color))
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    _draw_dots(axes, dots)
    end = axes.get_xlim()[1]
    baselines = [method for method in comparison.methods if method.name == method.baseline]
    labels += [EndLabel(_target_label(method), end, method.target * 100, MUTED) for method in baselines]
    label_ends(figure, axes, labels)


def _draw_dots(axes: "Axes", dots: Sequence[tuple[float, float, str]]) -> None:
    """Draw dots. At one position, the first is a dot and each further one is a ring around it.

    The limits of the axes must be set before.
    """
    places = axes.transData.transform([(x, y) for x, y, _ in dots] or [(0.0, 0.0)])
    for i, (x, y, color) in enumerate(dots):
        beneath = sum(math.dist(places[i], places[j]) < _COINCIDE for j in range(i))
        size, order = _DOT + _RING * beneath, 5 - 0.1 * beneath
        axes.plot(x, y, "o", color=color, markersize=size, markeredgecolor="white", zorder=order)


def _target_label(method: MethodSummary) -> str:
    return f"best of {method.baseline}: {method.target * 100:.1f}"


def _label(method: MethodSummary) -> str:
    label = f"{method.name}: best {method.scores['ap'].text(100)} (n={len(method.seeds)})"
    if method.name == method.baseline:
        return label
    if method.times_earlier is None:
        return f"{label}, {method.reached} of {len(method.seeds)} reach"
    if method.times_earlier < 1:
        return f"{label}, {1 / method.times_earlier:.2f}× later"
    return f"{label}, {method.times_earlier:.2f}× earlier"
