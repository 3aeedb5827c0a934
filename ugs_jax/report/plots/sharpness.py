"""Plot of curvature.png: curvature and gradient variance by object size, Hessian spectrum, slices of the loss."""

import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ugs_jax.report.plots.axes import PANEL, EndLabel, add_axes, label_ends, save, style_axes
from ugs_jax.report.plots.colors import INK, MUTED, line_style
from ugs_jax.report.run_log import Row, RunError, read_run, series

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ugs_jax.curvature.spectrum import Density

_SIZES = {
    "very_tiny": "<8 px",
    "tiny": "8–16",
    "small": "16–32",
    "medium": "32–64",
    "large": "≥64",
}
_LOGGED = {
    "box_curvature": "Curvature of −ln IoU in the box, 1/px²",
    "curvature": "Curvature of the objective in its outputs",
    "gradient_variance": "Gradient variance over squared mean",
}


def plot_sharpness(
    run_folder: Path,
    path: Path,
    density: "Density | None" = None,
    slices: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Path:
    """Plot the logged curvature and gradient variance by box size, and the loss landscape if it is given.

    Args:
      run_folder: Run folder of `ugs train`.
      path: File ending in .png, .svg or .pdf.
      density: Spectral density of the Hessian.
      slices: Arrays (distance, loss) by the name of the direction.

    Returns:
      `path`.

    Raises:
      RunError: The run folder cannot be read, or has no curvature in its log and nothing else is given.
      ValueError: The suffix of `path` is not supported.
    """
    from matplotlib.figure import Figure

    run = read_run(run_folder)
    logged = [key for key in _LOGGED if any(series(run.metrics.train, f"{key}_{size}")[0] for size in _SIZES)]
    panels = len(logged) + (density is not None) + len(slices or {})
    if not panels:
        raise RunError(f"{run.folder}: expected curvature in the log, found none; train with this version of ugs_jax")
    columns, rows = min(3, panels), math.ceil(panels / 3)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.45), dpi=110)
    figure.suptitle(f"{run.name}, seed {run.seed}", x=0.01, ha="left", fontsize=15, color=INK)
    places = iter(
        add_axes(figure, PANEL[0] * (i % columns) + 0.75, PANEL[1] * (rows - 1 - i // columns) + 0.6, 3.6, 2.65)
        for i in range(panels)
    )
    for key in logged:
        _draw_by_size(figure, next(places), run.metrics.train, key)
    if density is not None:
        _draw_density(next(places), density)
    for name, (distance, loss) in (slices or {}).items():
        axes = next(places)
        axes.plot(distance, loss, color=line_style(0)[0], linewidth=1.9)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        style_axes(axes, f"Loss along the {name} direction", "‖Δθ‖ / ‖θ‖")
    return save(figure, path)


def _draw_by_size(figure: "Figure", axes: "Axes", rows: Sequence[Row], key: str) -> None:
    labels = []
    for i, (size, name) in enumerate(_SIZES.items()):
        epochs, values = series(rows, f"{key}_{size}")
        shown = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value > 0]
        if shown:
            color, dash = line_style(i)
            axes.plot(*zip(*shown, strict=True), color=color, linestyle=dash, linewidth=1.6)
            labels.append(EndLabel(f"{name} {shown[-1][1]:.2g}", *shown[-1], color))
    style_axes(axes, _LOGGED[key])
    if labels:
        axes.set_yscale("log")
    label_ends(figure, axes, labels)


def _draw_density(axes: "Axes", density: "Density") -> None:
    values = np.asarray(density.eigenvalues)
    low, high = float(values.min()), float(values.max())
    width = max((high - low) / 100, 1e-12)
    points = np.linspace(low - 4 * width, high + 4 * width, 600)
    axes.semilogy(points, np.maximum(np.asarray(density.at(points, width)), 1e-12), color=line_style(0)[0])
    axes.set_ylim(bottom=1e-7 / width)
    style_axes(axes, "Density of the Hessian's eigenvalues", "eigenvalue")
