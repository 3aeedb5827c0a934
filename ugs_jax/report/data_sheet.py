"""Contact sheet of a data check: images with the most faults, the smallest objects and the most objects."""

import typing
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, UInt8

from data_pipeline import DataError, Dataset
from data_pipeline.check import DataCheck
from data_pipeline.check.sizes import source_sides
from data_pipeline.pictures import read_whole
from ugs_jax.report.pictures import blank_strip, draw_legend, draw_panel, sans_font, stack_strips
from ugs_jax.report.plots.colors import IGNORED, box_color

if typing.TYPE_CHECKING:
    from PIL.Image import Image

_GAP = 8
_TITLE = 28


class SheetPanel(typing.NamedTuple):
    """One image of a data sheet. Boxes are xyxy in px of `image`.

    Attributes:
      title: Text above the image.
      image: RGB image, or the part of it that is shown.
      boxes: Boxes of the objects.
      classes: Class indices of the objects.
      ignore: Ignore regions.
    """

    title: str
    image: UInt8[np.ndarray, "height width 3"]
    boxes: Float[np.ndarray, "objects 4"]
    classes: Int[np.ndarray, " objects"]
    ignore: Float[np.ndarray, "regions 4"]


def sheet_panels(check: DataCheck, datasets: Sequence[Dataset], each: int = 3, window: int = 480) -> list[SheetPanel]:
    """Return the panels of a data sheet: of each kind a few images, without repetition. Unreadable images are left out.

    Args:
      check: Findings in the data set.
      datasets: Splits of the data set, in the order of the check.
      each: Number of images with the most faults, with the smallest objects and with the most objects.
      window: Side of the part that is shown around the smallest object of an image, px.
    """
    panels = []
    seen: set[tuple[int, int]] = set()
    for ranked in (_faulty(check, datasets), _smallest(datasets), _crowded(datasets)):
        left = each
        for split, index, note in ranked:
            if not left:
                break
            try:
                image = read_whole(datasets[split], index) if (split, index) not in seen else None
            except DataError:
                continue
            if image is None:
                continue
            seen.add((split, index))
            left -= 1
            panel = _whole(datasets[split], index, image, note)
            panels.append(_around_smallest(panel, window) if note.startswith("smallest") else panel)
    return panels


def draw_data_sheet(
    panels: Sequence[SheetPanel], classes: Sequence[str], columns: int = 3, panel_width: int = 560
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    """Draw images with their boxes in columns, above a common legend. Ignore regions are crossed out in grey.

    Args:
      panels: Images with titles and boxes.
      classes: Class names for the legend.
      columns: Number of columns.
      panel_width: Width of each column, px.

    Raises:
      ValueError: `panels` is empty.
    """
    if not panels:
        raise ValueError("data sheet: expected at least one image, got none; pass images that can be read")
    strips = []
    for start in range(0, len(panels), columns):
        row = [_titled(panel, panel_width) for panel in panels[start : start + columns]]
        strip = blank_strip(columns * (panel_width + _GAP) - _GAP, max(cell.height for cell in row) + _GAP)
        for column, cell in enumerate(row):
            strip.paste(cell, (column * (panel_width + _GAP), 0))
        strips.append(strip)
    present = sorted({int(label) for panel in panels for label in panel.classes})
    entries = [(classes[label], box_color(label)) for label in present]
    if any(len(panel.ignore) for panel in panels):
        entries.append(("ignored region", IGNORED))
    return stack_strips([*strips, draw_legend(strips[0].width, entries, "")])


def _titled(panel: SheetPanel, width: int) -> "Image":
    from PIL import ImageDraw

    picture = draw_panel(panel.image, panel.boxes, panel.classes, panel.ignore, width)
    canvas = blank_strip(width, picture.height + _TITLE)
    canvas.paste(picture, (0, _TITLE))
    draw, font, title = ImageDraw.Draw(canvas), sans_font(16), panel.title
    while draw.textlength(title, font=font) > width - 8:
        title = f"…{title[2:]}"  # the end of the path and the note are worth more than its beginning
    draw.text((4, _TITLE / 2), title, fill=(31, 35, 40), font=font, anchor="lm")
    return canvas


def _faulty(check: DataCheck, datasets: Sequence[Dataset]) -> Iterator[tuple[int, int, str]]:
    counts: Counter[tuple[int, int]] = Counter()
    for split, (found, dataset) in enumerate(zip(check.splits, datasets, strict=True)):
        index = {name: i for i, name in enumerate(dataset.file_names)}
        counts.update((split, index[fault.image]) for fault in found.faults if fault.image in index)
    for (split, image), count in counts.most_common():
        yield split, image, f"{count} fault{'s' * (count > 1)}"


def _smallest(datasets: Sequence[Dataset]) -> Iterator[tuple[int, int, str]]:
    ranked = []
    for split, dataset in enumerate(datasets):
        sides, starts = source_sides(dataset), dataset.table.box_start
        ranked += [
            (float(np.median(sides[start:end])), split, index)
            for index, (start, end) in enumerate(pairwise(starts.tolist()))
            if end > start
        ]
    for median, split, index in sorted(ranked):
        yield split, index, f"smallest objects, median √area {median:.1f} px"


def _crowded(datasets: Sequence[Dataset]) -> Iterator[tuple[int, int, str]]:
    counts = [
        (int(count), split, index)
        for split, dataset in enumerate(datasets)
        for index, count in enumerate(np.diff(dataset.table.box_start))
        if count
    ]
    for count, split, index in sorted(counts, key=lambda entry: -entry[0]):
        yield split, index, f"most objects, {count}"


def _whole(dataset: Dataset, index: int, image: np.ndarray, note: str) -> SheetPanel:
    example = dataset.annotations(index)
    title = f"{dataset.split}: {example.file_name}, {note}"
    return SheetPanel(title, image, example.boxes, example.classes, example.ignore)


def _around_smallest(panel: SheetPanel, window: int) -> SheetPanel:
    """Return the part of a panel around its smallest object, at full resolution."""
    height, width = panel.image.shape[:2]
    smallest = panel.boxes[(panel.boxes[:, 2:] - panel.boxes[:, :2]).prod(axis=1).argmin()]
    left, top = (
        int(np.clip((smallest[axis] + smallest[axis + 2]) / 2 - window / 2, 0, max(0, side - window)))
        for axis, side in enumerate((width, height))
    )
    shift = np.array([left, top, left, top], np.float32)
    limits = np.array([min(width - left, window), min(height - top, window)] * 2, np.float32)
    inside = ((panel.boxes[:, :2] - shift[:2] < limits[:2]) & (panel.boxes[:, 2:] - shift[2:] > 0)).all(axis=1)
    return panel._replace(
        image=panel.image[top : top + window, left : left + window],
        boxes=np.clip(panel.boxes[inside] - shift, 0, limits),
        classes=panel.classes[inside],
        ignore=np.clip(panel.ignore - shift, 0, limits),
    )
