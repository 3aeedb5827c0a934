"""Plot of the errors of box sides against their predicted standard deviations."""

import typing
from pathlib import Path

from ugs_jax.report.plots.axes import save, style_axes
from ugs_jax.report.plots.colors import MUTED, line_style

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ugs_jax.inference import Calibration


def plot_calibration(calibration: "Calibration", path: Path, title: str = "Sides of matched boxes") -> Path:
    """Plot root mean square error against predicted standard deviation, both in px on logarithmic axes.

    A perfectly calibrated detector lies on the diagonal.

    Args:
      calibration: Calibration from `inference.calibration` or `analysis.measure_calibration`.
      path: File ending in .png, .svg or .pdf, replaced atomically.
      title: Title of the plot.

    Returns:
      `path`.

    Raises:
      ValueError: The suffix of `path` is not supported.
    """
    return save(draw_calibration(calibration, title), path)


def draw_calibration(calibration: "Calibration", title: str = "Sides of matched boxes") -> "Figure":
    """Return the plot of `plot_calibration`.

    Args:
      calibration: Calibration from `inference.calibration` or `analysis.measure_calibration`.
      title: Title of the plot.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(5.6, 4.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    shown = (calibration.predicted > 0) & (calibration.error > 0)
    predicted, error = calibration.predicted[shown], calibration.error[shown]
    axes.loglog(predicted, error, color=line_style(0)[0], marker="o", markersize=5, linewidth=1.6)
    if shown.any():
        ends = min(predicted.min(), error.min()) / 1.3, max(predicted.max(), error.max()) * 1.3
        axes.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle=(0, (4.0, 3.0)))
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
    style_axes(axes, title, "predicted standard deviation, px")
    axes.set_ylabel(f"RMS error, px ({calibration.factor:.2f} × predicted)", fontsize=10.5, color=MUTED)
    return figure
