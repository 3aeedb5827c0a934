"""Plot after Fig. 1 of the paper: wells of the IoU loss for boxes of several sizes, beside those of UGS."""

import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import losses
from ugs_jax.labels import interval_grid
from ugs_jax.report.plots.axes import EndLabel, add_axes, label_ends, save, style_axes
from ugs_jax.report.plots.colors import MUTED, line_style

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = (4.0, 8.0, 16.0, 32.0, 64.0)
SHIFT = 2.0
_REACH = 3.6
_SHARPNESS = 0.3
_NOTE = (
    "Squares of 4 to 64 px, with a prediction that is shifted to the right or left. Arrows: gradient descent at the "
    f"same shift of {SHIFT:g} px; their lengths\nare comparable within a panel. UGS: offsets in sides of the box, the "
    "paper's grid (α = 2, β = 1, n = 10); the prediction is a discretised normal distribution\naround the shifted "
    f"position, with a standard deviation of {_SHARPNESS:g} sides."
)


class Well(typing.NamedTuple):
    """Loss of one box over the shift of its prediction.

    Attributes:
      loss: Loss at every shift.
      gradient: Norm of the gradient at every shift.
    """

    loss: Float[np.ndarray, "n"]
    gradient: Float[np.ndarray, "n"]


def iou_well(size: float, shifts: Float[Array | np.ndarray, "n"]) -> Well:
    """Return −ln IoU of a square and its copy shifted along x, and the size of the derivative by the shift, 1/px.

    Args:
      size: Side of the square, px.
      shifts: Shifts of the prediction, px; shorter than `size`.
    """
    values, slopes = _iou_slopes(size, jnp.asarray(shifts))
    return Well(np.asarray(values), np.abs(slopes))


def ugs_well(size: float, shifts: Float[Array | np.ndarray, "n"]) -> Well:
    """Return the cross entropy of a prediction around a shifted position, and the norm of its gradient.

    The gradient is taken with respect to the logits. Its norm is at most √2.

    Args:
      size: Side of the box and unit of the grid, px.
      shifts: Shifts of the prediction, px.
    """
    values, lengths = _ugs_slopes(jnp.asarray(shifts) / size)
    return Well(np.asarray(values), np.asarray(lengths))


@jax.jit
def _iou_slopes(size: Array, shifts: Array) -> tuple[Array, Array]:
    target = size * jnp.array([0.0, 0.0, 1.0, 1.0])
    loss = lambda shift: losses.log_iou(target + shift * jnp.array([1.0, 0.0, 1.0, 0.0]), target)  # noqa: E731
    return jax.vmap(jax.value_and_grad(loss))(shifts)


@jax.jit
def _ugs_slopes(places: Array) -> tuple[Array, Array]:
    grid = jnp.asarray(interval_grid(alpha=2.0, beta=1.0, n=10), jnp.float32)
    loss = lambda logits: losses.interval_cross_entropy(logits, jnp.zeros(()), grid)  # noqa: E731
    values, slopes = jax.vmap(jax.value_and_grad(loss))(-jnp.square((grid - places[:, None]) / _SHARPNESS) / 2)
    return values, jnp.linalg.norm(slopes, axis=-1)


def plot_wells(path: Path, sizes: Sequence[float] = SIZES) -> Path:
    """Plot loss and gradient against the shift for several box sizes: −ln IoU on the left, UGS on the right.

    For −ln IoU, the same shift gives a small box a larger gradient and a sharper well: |∂/∂d| = 2w/(w² − d²). This is
    the corrected form of the supplement's Eq. 9. The gradient of UGS with respect to its logits is p − p*, with a norm
    of at most √2.

    Args:
      path: File ending in .png, .svg or .pdf.
      sizes: Sides of the boxes, px; above 3.6.

    Returns:
      `path`.

    Raises:
      ValueError: The suffix of `path` is not supported, or a size is too small for the plotted shifts.
    """
    from matplotlib.figure import Figure

    if min(sizes) <= _REACH:
        raise ValueError(f"sizes: expected sides above {_REACH:g} px, the largest shift plotted, got {min(sizes):g}")
    figure = Figure(figsize=(11.6, 8.2), dpi=110)
    columns: list[tuple[str, str, Callable[..., Well]]] = [
        ("−ln IoU", "∂/∂shift, 1/px", iou_well),
        ("UGS, cross entropy", "norm of ∂/∂logits", ugs_well),
    ]
    for i, (name, unit, well) in enumerate(columns):
        upper, lower = (add_axes(figure, 0.7 + 5.8 * i, bottom, 4.2, 2.75) for bottom in (4.85, 1.2))
        _draw(figure, upper, lower, [(size, well) for size in sizes])
        style_axes(upper, f"{name}: loss", "shift of the prediction, px")
        style_axes(lower, f"{name}: gradient ({unit})", "shift of the prediction, px")
    figure.text(0.02, 0.02, _NOTE, fontsize=9.5, color=MUTED, va="bottom")
    return save(figure, path)


def _draw(figure: "Figure", upper: "Axes", lower: "Axes", wells: Sequence[tuple[float, Callable[..., Well]]]) -> None:
    shifts = np.linspace(-_REACH, _REACH, 360, dtype=np.float32)
    ends: tuple[list[EndLabel], list[EndLabel]] = ([], [])
    marked = [well(size, np.array([SHIFT], np.float32)) for size, well in wells]
    longest = max(float(mark.gradient[0]) for mark in marked)
    for i, ((size, well), mark) in enumerate(zip(wells, marked, strict=True)):
        color, _ = line_style(i)
        curve = well(size, shifts)
        for axes, values, labels in ((upper, curve.loss, ends[0]), (lower, curve.gradient, ends[1])):
            axes.plot(shifts, values, color=color, linewidth=1.9)
            labels.append(EndLabel(f"{size:g} px", _REACH, float(values[-1]), color))
        height, length = float(mark.loss[0]), 1.8 * float(mark.gradient[0]) / longest
        upper.annotate(
            "",
            xy=(SHIFT - length, height),
            xytext=(SHIFT, height),
            arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0},
        )
    for axes, labels in zip((upper, lower), ends, strict=True):
        axes.set_ylim(bottom=0)
        label_ends(figure, axes, labels)
