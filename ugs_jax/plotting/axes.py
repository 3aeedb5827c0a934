"""Axes without clutter, and labels at the ends of lines instead of a legend."""

import io
import typing
from collections.abc import Sequence
from pathlib import Path

from ugs_jax.atomic import write_atomically
from ugs_jax.plotting.colors import GRID, INK, MUTED

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
    axes.tick_params(colors=MUTED, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def label_ends(axes: "Axes", labels: Sequence[EndLabel]) -> None:
    """Writes labels right of the axes at the height of their lines, moved apart where they would overlap.

    Call it last: it fixes the limits of the axes.

    Args:
      axes: already has its lines.
      labels: one per line.
    """
    if not labels:
        return
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101  # axes outside a figure cannot be drawn at all
    figure.draw_without_rendering()
    to_fraction = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_fraction.transform((label.x, label.y))[1]) for label in labels]
    height = axes.get_window_extent().height * 72 / figure.dpi
    lines = [label.text.count("\n") + 1 for label in labels]
    gaps = [1.25 * LABEL_SIZE * count / height for count in lines]
    for label, y in zip(labels, spread(wanted, gaps), strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.03, y),
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
                "shrinkA": 0,
                "shrinkB": 2,
            },
        )


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Places intervals of the given sizes near the wanted centres without overlap, in the same order.

    Neighbours that overlap form a block that is centred on the mean of what its members want, and blocks that
    then overlap are merged (pool adjacent violators: the least-squares placement).

    Args:
      wanted: centres.
      sizes: positive.

    Returns:
      Centres, in the order given.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[list[int], float]] = []  # members bottom-up, and the block's bottom edge
    for i in order:
        members, bottom = [i], wanted[i] - sizes[i] / 2
        while blocks and blocks[-1][1] + sum(sizes[j] for j in blocks[-1][0]) > bottom:
            members = blocks.pop()[0] + members
            offsets = [sum(sizes[j] for j in members[:k]) + sizes[m] / 2 for k, m in enumerate(members)]
            bottom = sum(wanted[m] - offset for m, offset in zip(members, offsets, strict=True)) / len(members)
        blocks.append((members, bottom))
    centres = [0.0] * len(wanted)
    for members, bottom in blocks:
        for i in members:
            centres[i] = bottom + sizes[i] / 2
            bottom += sizes[i]
    return centres


def save(figure: "Figure", path: Path) -> Path:
    """Writes the figure as the suffix says (.png, .svg or .pdf), in one step.

    Raises:
      ValueError: for another suffix.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{path}: expected a name ending in .png, .svg or .pdf, got {path.suffix!r}; rename it")
    buffer = io.BytesIO()
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    figure.savefig(buffer, format=path.suffix[1:], metadata=undated, facecolor="white")
    write_atomically(path, buffer.getvalue())
    return path
