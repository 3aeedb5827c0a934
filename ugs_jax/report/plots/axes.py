"""Axes without clutter, and labels at the ends of lines instead of a legend."""

import io
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

from ugs_jax.atomic import write_atomically
from ugs_jax.report.plots.colors import GRID, INK, MUTED

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_SIZE = 10.0  # pt


class EndLabel(typing.NamedTuple):
    """Text for the right end of a line that ends at (x, y), in the unit of the axes."""

    text: str
    x: float
    y: float
    color: str


def style_axes(axes: "Axes", title: str, x_label: str = "epoch") -> None:
    """Title on the left, light horizontal grid, no box; sizes readable at half width of a page."""
    axes.set_title(title, loc="left", fontsize=12.5, color=INK, pad=10)
    axes.set_xlabel(x_label, fontsize=10.5, color=MUTED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def add_axes(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Axes at a place given in inches, so that the room for labels beside them is known."""
    figure_width, figure_height = figure.get_size_inches()
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def label_width(texts: Iterable[str]) -> float:
    """Inches that the longest of the labels needs with its connector, by the mean width of a character."""
    return 0.4 + 0.0078 * LABEL_SIZE * max((len(text) for text in texts), default=0)


def label_ends(figure: "Figure", axes: "Axes", labels: Sequence[EndLabel]) -> None:
    """Writes labels right of the axes at the height of their lines, moved apart where they would overlap.

    Call it last: it fixes the limits of the axes.

    Args:
      figure: holds `axes`.
      axes: already has its lines.
      labels: one per line.
    """
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    to_fraction = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_fraction.transform((label.x, label.y))[1]) for label in labels]
    gap = 1.3 * LABEL_SIZE / 72 / (axes.get_position().height * float(figure.get_size_inches()[1]))
    for label, y in zip(labels, spread(wanted, gap), strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.05, y),
            textcoords="axes fraction",
            fontsize=LABEL_SIZE,
            color=label.color,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.color,
                "linewidth": 0.7,
                "alpha": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 2,
            },
        )


def spread(wanted: Sequence[float], gap: float, high: float = 1.0) -> list[float]:
    """Moves heights apart to at least `gap`, none above `high`, in the same order.

    Neighbours that are too close form a block centred on the mean of what its members want, and blocks that then
    touch are merged (pool adjacent violators: the least-squares placement).

    Args:
      wanted: heights.
      gap: least distance, positive.
      high: upper end; where all do not fit below it, the lowest go below 0.

    Returns:
      Heights, in the order given.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[int, float]] = []  # number of members, and the height of the lowest
    for i in order:
        count, lowest = 1, wanted[i]
        while blocks and blocks[-1][1] + blocks[-1][0] * gap > lowest:
            below, below_lowest = blocks.pop()
            lowest = (below * below_lowest + count * (lowest - below * gap)) / (below + count)
            count += below
        blocks.append((count, lowest))
    heights = [lowest + k * gap for count, lowest in blocks for k in range(count)]
    limit = high
    for k in reversed(range(len(heights))):
        heights[k] = min(heights[k], limit)
        limit = heights[k] - gap
    placed = [0.0] * len(wanted)
    for i, height in zip(order, heights, strict=True):
        placed[i] = height
    return placed


def save(figure: "Figure", path: Path) -> Path:
    """Writes the figure as the suffix says (.png, .svg or .pdf), in one step.

    Raises:
      ValueError: for another suffix.
    """
    import matplotlib

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{path}: expected a name ending in .png, .svg or .pdf, got {path.suffix!r}; rename it")
    buffer = io.BytesIO()
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    with matplotlib.rc_context({"svg.hashsalt": "ugs_jax"}):  # the same figure gives the same file
        figure.savefig(buffer, format=path.suffix[1:], metadata=undated, facecolor="white")
    write_atomically(path, buffer.getvalue())
    return path
