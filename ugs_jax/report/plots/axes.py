"""Plain axes, with labels at the ends of lines instead of a legend."""

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

PANEL = (5.6, 3.7)
"""Width and height of a panel of a figure, with its labels, inches."""


class EndLabel(typing.NamedTuple):
    """Label of a line.

    Attributes:
      text: Text of the label.
      x: Right end of the line, in the unit of the x axis.
      y: Height of the line at its right end, in the unit of the y axis.
      color: Colour of the line.
    """

    text: str
    x: float
    y: float
    color: str


def style_axes(axes: "Axes", title: str, x_label: str = "epoch") -> None:
    """Style axes with a title on the left, a light horizontal grid and no frame.

    The text is readable at half the width of a page.
    """
    axes.set_title(title, loc="left", fontsize=12.5, color=INK, pad=10)
    axes.set_xlabel(x_label, fontsize=10.5, color=MUTED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def add_axes(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Add axes at a position in inches, so that the space for labels beside them is known."""
    figure_width, figure_height = figure.get_size_inches()
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def label_width(texts: Iterable[str]) -> float:
    """Return the width in inches of the longest label with its connector, estimated from the mean character width."""
    return 0.4 + 0.0078 * LABEL_SIZE * max((len(text) for text in texts), default=0)


def label_ends(figure: "Figure", axes: "Axes", labels: Sequence[EndLabel]) -> None:
    """Write labels to the right of the axes at the height of their lines, moved apart where they would overlap.

    Call this function last, because it fixes the limits of the axes.

    Args:
      figure: Figure that holds `axes`.
      axes: Axes with all lines drawn.
      labels: One label for each line.
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
            parse_math=False,
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
    """Move heights apart to a distance of at least `gap`, in the same order and none above `high`.

    Neighbours that are too close form a block centred on the mean of the heights that its members want. Blocks that
    then touch are merged (pool adjacent violators, the least-squares solution).

    Args:
      wanted: Wanted heights.
      gap: Least distance, positive.
      high: Upper limit. If there is not enough space below it, the lowest heights become negative.

    Returns:
      New heights, in the order of `wanted`.
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
    """Write the figure atomically, in the format of the file's suffix: .png, .svg or .pdf.

    Raises:
      ValueError: The suffix is not supported.
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
