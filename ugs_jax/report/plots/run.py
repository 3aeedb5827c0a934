"""Training curves of one run, curves.png."""

import math
import typing
from collections.abc import Sequence
from pathlib import Path

from ugs_jax.report.plots.axes import PANEL, EndLabel, add_axes, label_ends, save, style_axes
from ugs_jax.report.plots.colors import INK, line_style
from ugs_jax.report.run_log import Row, Run, RunError, read_run, series

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Panel(typing.NamedTuple):
    """One panel of curves.png.

    Attributes:
      title: Title of the panel.
      kind: Kind of the rows that hold its metrics.
      names: Label of each metric, by its key in the rows.
      factor: Factor on the values.
    """

    title: str
    kind: typing.Literal["train", "eval", "timing"]
    names: dict[str, str]
    factor: float = 1.0


PANELS = (
    Panel(
        "Training loss",
        "train",
        {"loss": "total", "box": "box", "objectness": "objectness", "classes": "classes", "refinement": "refinement"},
    ),
    Panel("Average precision, %", "eval", {"ap50": "AP50", "ap": "AP", "ap75": "AP75"}, 100),
    Panel(
        "AP by object size, %",
        "eval",
        {
            "ap_medium": "medium 32–64 px",
            "ap_small": "small 16–32",
            "ap_tiny": "tiny 8–16",
            "ap_very_tiny": "very tiny <8",
        },
        100,
    ),
    Panel("Uncertainty of the boxes", "train", {"uncertainty": "last"}),
    Panel("Learning rate", "train", {"learning_rate": "last"}),
    Panel("Images per second", "timing", {"images_per_second": "last"}),
)
_TITLE = 0.45  # inches
_TITLE_FONT: dict[str, typing.Any] = {"fontsize": 15, "color": INK, "va": "top", "parse_math": False}
_SMOOTHED = frozenset({"Training loss", "Uncertainty of the boxes", "Images per second"})


def plot_run(run_folder: Path, path: Path | None = None) -> Path:
    """Plot losses, AP, AP by object size, uncertainty, learning rate and throughput over epochs.

    Panels without values are left out.

    Args:
      run_folder: Run folder of `ugs train`.
      path: File ending in .png, .svg or .pdf; `curves.png` in the run folder if None.

    Returns:
      Path of the plot.

    Raises:
      RunError: The run folder cannot be read, or has none of the plotted metrics.
      ValueError: The suffix of `path` is not supported.
    """
    from matplotlib.figure import Figure

    run = read_run(run_folder)
    panels = panels_of(run)
    if not panels:
        raise RunError(f"{run.folder}: expected logged metrics, found none of the plotted ones; let the run log a step")
    columns, rows = min(3, len(panels)), math.ceil(len(panels) / 3)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + _TITLE), dpi=110)
    figure.text(0.1 / PANEL[0], 1 - 0.12 / (PANEL[1] + _TITLE), f"{run.name}, seed {run.seed}", **_TITLE_FONT)
    for i, panel in enumerate(panels):
        left, bottom = PANEL[0] * (i % columns) + 0.6, PANEL[1] * (rows - 1 - i // columns) + 0.6
        axes = add_axes(figure, left, bottom, PANEL[0] - 2.5, PANEL[1] - 1.05)
        _draw_panel(figure, axes, panel, _rows(run, panel))
    return save(figure, Path(run_folder) / "curves.png" if path is None else path)


def panels_of(run: Run) -> list[Panel]:
    """Return the panels of curves.png with at least one value."""
    return [panel for panel in PANELS if any(series(_rows(run, panel), key)[0] for key in panel.names)]


def draw_panel(run: Run, panel: Panel) -> "Figure":
    """Return a figure with one panel of curves.png.

    Args:
      run: Run with its log.
      panel: Panel from `panels_of`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, dpi=110)
    axes = add_axes(figure, 0.75, 0.6, PANEL[0] - 2.65, PANEL[1] - 1.05)  # room for the labels of small rates
    _draw_panel(figure, axes, panel, _rows(run, panel))
    return figure


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the running median of the last `window` values. It ignores single outliers and non-finite values.

    Args:
      values: Values in order.
      window: Number of values in a window, at least 1.

    Returns:
      One median for each value; NaN if a window has no finite value.
    """
    medians = []
    for i in range(len(values)):
        recent = sorted(v for v in values[max(0, i - window + 1) : i + 1] if math.isfinite(v))
        middle = len(recent) // 2
        if not recent:
            medians.append(math.nan)
        else:
            medians.append(recent[middle] if len(recent) % 2 else (recent[middle - 1] + recent[middle]) / 2)
    return medians


def _rows(run: Run, panel: Panel) -> tuple[Row, ...]:
    metrics = run.metrics
    return {"train": metrics.train, "eval": metrics.evaluations, "timing": metrics.timing}[panel.kind]


def _draw_panel(figure: "Figure", axes: "Axes", panel: Panel, rows: Sequence[Row]) -> None:
    style_axes(axes, panel.title)
    labels, drawn = [], []
    for i, (key, name) in enumerate(panel.names.items()):
        epochs, values = series(rows, key)
        if not epochs:
            continue
        values = [value * panel.factor for value in values]
        color, dash = line_style(i)
        marker = "o" if panel.kind == "eval" and len(epochs) <= 40 else None
        if panel.title in _SMOOTHED and len(values) >= 20:
            axes.plot(epochs, values, color=color, linewidth=0.7, alpha=0.25)
            values = smooth(values, window=max(3, len(values) // 40))
        axes.plot(epochs, values, color=color, linestyle=dash, linewidth=1.9, marker=marker, markersize=3.5)
        drawn += [value for value in values if math.isfinite(value)]
        last = next((value for value in reversed(values) if math.isfinite(value)), None)
        if last is not None:
            text = f"{name} {last:.1f}" if panel.kind == "eval" else f"{name} {last:.3g}"
            labels.append(EndLabel(text, epochs[-1], last, color))
    if drawn and min(drawn) > 0 and max(drawn) / min(drawn) > 30 and panel.title == "Training loss":
        _log_scale(axes)
    elif drawn and min(drawn) >= 0:
        axes.set_ylim(0, max(drawn) * 1.08 or 1)
    label_ends(figure, axes, labels)


def _log_scale(axes: "Axes") -> None:
    """Set a logarithmic y axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
