"""Pictures of detections: thin lines around tiny objects, and a legend instead of text on the image."""

import math
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from data_pipeline.wording import counted
from ugs_jax.evaluation import ImageDetections
from ugs_jax.evaluation.detections import take
from ugs_jax.report.plots.colors import IGNORED, OUTCOMES, box_color

if typing.TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    from ugs_jax.report.diagnosis import Outcome

_SHORTEST_LONG_SIDE = 1280  # px; smaller images are enlarged by a whole factor
_LINE = 36  # px; height of the first line of a legend
_PAPER = (255, 255, 255)
_INK = (31, 35, 40)


class SheetRow(typing.NamedTuple):
    """One image of a contact sheet, with its objects and detections. Boxes are xyxy in px of `image`.

    Attributes:
      image: RGB image.
      truth_boxes: Boxes of the objects.
      truth_classes: Class indices of the objects.
      ignore: Ignore regions.
      detections: Detections.
    """

    image: UInt8[np.ndarray, "height width 3"]
    truth_boxes: Float[np.ndarray, "objects 4"]
    truth_classes: Int[np.ndarray, " objects"]
    ignore: Float[np.ndarray, "regions 4"]
    detections: ImageDetections


def draw_detections(
    image: UInt8[np.ndarray, "height width 3"],
    detections: ImageDetections,
    classes: Sequence[str],
    threshold: float = 0.25,
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    """Draw detections on an image, above a legend with the number of detections of each class.

    Args:
      image: RGB image.
      detections: Detections, in px of `image`.
      classes: Class names for the legend.
      threshold: Least score of a detection that is drawn.

    Returns:
      RGB picture with the legend at the bottom. Images with a long side under 1280 px are enlarged by a whole factor.
    """
    shown = _above(detections, threshold)
    scale = max(1, math.ceil(_SHORTEST_LONG_SIDE / max(image.shape[:2])))
    canvas = _enlarge(image, (image.shape[1] * scale, image.shape[0] * scale))
    _outline(canvas, shown.boxes * scale, [box_color(int(k)) for k in shown.classes], width=2)
    counts = np.bincount(shown.classes, minlength=len(classes))
    entries = [(f"{name} {counts[k]}", box_color(k)) for k, name in enumerate(classes) if counts[k]]
    legend = draw_legend(canvas.width, entries, f"{counted(len(shown.scores), 'detection')} with score ≥ {threshold:g}")
    return stack_strips([canvas, legend])


def draw_frame(
    image: UInt8[np.ndarray, "height width 3"],
    detections: ImageDetections,
    classes: Sequence[str],
    threshold: float = 0.25,
    title: str = "",
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    """Draw detections on a frame of a video, above one line of legend. Frames of a size give pictures of a size.

    Args:
      image: RGB image.
      detections: Detections, in px of `image`.
      classes: Class names for the legend. Only the most frequent classes fit into a line.
      threshold: Least score of a detection that is drawn.
      title: Text at the start of the legend.

    Returns:
      RGB picture, not enlarged, with even sides, as video codecs need them.
    """
    shown = _above(detections, threshold)
    canvas = _enlarge(image, (image.shape[1], image.shape[0]))
    _outline(canvas, shown.boxes, [box_color(int(k)) for k in shown.classes], width=2)
    counts = np.bincount(shown.classes, minlength=len(classes))
    present = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    legend = draw_legend(canvas.width, [(f"{classes[k]} {counts[k]}", box_color(k)) for k in present], title)
    height, width = canvas.height + _LINE, canvas.width
    picture = blank_strip(width + width % 2, height + height % 2)
    picture.paste(canvas, (0, 0))
    picture.paste(legend, (0, canvas.height))
    return np.asarray(picture)


def draw_contact_sheet(
    rows: Sequence[SheetRow], classes: Sequence[str], threshold: float = 0.25, panel_width: int = 800
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    """Draw ground truth beside detections, one image in each row, with a common legend.

    Args:
      rows: Images with their objects and detections.
      classes: Class names for the legend.
      threshold: Least score of a detection that is drawn.
      panel_width: Width of each of the two columns, px.

    Returns:
      RGB picture. Ignore regions are crossed out in grey.

    Raises:
      ValueError: `rows` is empty.
    """
    if not rows:
        raise ValueError("contact sheet: expected at least one image, got none; pass images of the validation split")
    gap = 8
    strips = [_titles(panel_width, gap, ("ground truth", f"detections with score ≥ {threshold:g}"))]
    present: set[int] = set()
    for row in rows:
        shown = _above(row.detections, threshold)
        present.update(row.truth_classes.tolist(), shown.classes.tolist())
        left = draw_panel(row.image, row.truth_boxes, row.truth_classes, row.ignore, panel_width)
        right = draw_panel(row.image, shown.boxes, shown.classes, row.ignore, panel_width)
        strips += [_beside(left, right, gap), blank_strip(2 * panel_width + gap, gap)]
    entries = [(classes[k], box_color(k)) for k in sorted(present)]
    if any(len(row.ignore) for row in rows):
        entries.append(("ignored region", IGNORED))
    return stack_strips([*strips, draw_legend(2 * panel_width + gap, entries, "")])


def draw_outcomes(
    image: UInt8[np.ndarray, "height width 3"],
    outcomes: Sequence["Outcome"],
    ignore: Float[np.ndarray, "regions 4"],
    shortest: int = 800,
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    """Draw the objects and detections of an image in the colours of `OUTCOMES`, the errors last.

    Args:
      image: RGB image.
      outcomes: Objects and detections of the image, px of `image`.
      ignore: Ignore regions, xyxy, px of `image`. They are crossed out in grey.
      shortest: Smaller images are enlarged to this length of the longer side, px.
    """
    scale = max(1.0, shortest / max(image.shape[:2]))
    canvas = _enlarge(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))
    _cross_out(canvas, ignore * scale)
    for kind, (color, _) in OUTCOMES.items():
        boxes = np.array([each.box for each in outcomes if each.kind == kind]).reshape(-1, 4)
        _outline(canvas, boxes * scale, [color] * len(boxes), width=2)
    return np.asarray(canvas)


def _above(detections: ImageDetections, threshold: float) -> ImageDetections:
    return take(detections, detections.scores >= threshold)


def draw_panel(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray, ignore: np.ndarray, width: int) -> "Image":
    """Return one image at the panel's width. Boxes are drawn after resizing, so that lines stay crisp."""
    scale = width / image.shape[1]
    canvas = _enlarge(image, (width, max(1, round(image.shape[0] * scale))))
    _cross_out(canvas, ignore * scale)
    _outline(canvas, boxes * scale, [box_color(int(k)) for k in classes], width=2 if scale >= 1 else 1)
    return canvas


def _enlarge(image: np.ndarray, size: tuple[int, int]) -> "Image":
    from PIL import Image

    canvas = Image.fromarray(image)
    return canvas if canvas.size == size else canvas.resize(size, Image.Resampling.LANCZOS)


def _outline(canvas: "Image", boxes: np.ndarray, colors: Sequence[tuple[int, int, int]], width: int) -> None:
    """Draw lines just outside the boxes, so that an object a few px wide is not painted over."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(canvas)
    for (x0, y0, x1, y1), color in zip(boxes.tolist(), colors, strict=True):
        left, top = math.floor(x0) - width, math.floor(y0) - width
        right, bottom = math.ceil(x1) + width - 1, math.ceil(y1) + width - 1
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=width)


def _cross_out(canvas: "Image", regions: np.ndarray) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(canvas)
    for x0, y0, x1, y1 in regions.tolist():
        draw.rectangle((x0, y0, x1, y1), outline=IGNORED, width=1)
        draw.line((x0, y0, x1, y1), fill=IGNORED)
        draw.line((x0, y1, x1, y0), fill=IGNORED)


def draw_legend(width: int, entries: Sequence[tuple[str, tuple[int, int, int]]], title: str) -> "Image":
    """Return a strip with a title, then swatches with names, wrapped to `width`."""
    from PIL import Image, ImageDraw

    font, line, swatch = sans_font(18), 30, 16
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, x, y = [], 12.0, 6.0
    for text, color in ([(title, None)] if title else []) + list(entries):
        length = ruler.textlength(text, font=font) + (0 if color is None else swatch + 8)
        if x > 12 and x + length > width - 12:
            x, y = 12.0, y + line
        places.append((x, y, text, color))
        x += length + 24
    strip = Image.new("RGB", (width, round(y) + line + 6), _PAPER)
    draw = ImageDraw.Draw(strip)
    for x, y, text, color in places:
        if color is not None:
            draw.rectangle((x, y + 6, x + swatch, y + 6 + swatch), fill=color, outline=_INK)
            x += swatch + 8
        draw.text((x, y + line / 2), text, fill=_INK, font=font, anchor="lm")
    return strip


def _titles(panel_width: int, gap: int, titles: tuple[str, str]) -> "Image":
    from PIL import ImageDraw

    strip = blank_strip(2 * panel_width + gap, 34)
    for i, title in enumerate(titles):
        x = i * (panel_width + gap) + 4
        ImageDraw.Draw(strip).text((x, 17), title, fill=_INK, font=sans_font(20), anchor="lm")
    return strip


def sans_font(size: int) -> "FreeTypeFont":
    """Return the font DejaVu Sans. It comes with matplotlib and covers most scripts."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def blank_strip(width: int, height: int) -> "Image":
    """Return an empty picture in the colour of paper."""
    from PIL import Image

    return Image.new("RGB", (width, height), _PAPER)


def _beside(left: "Image", right: "Image", gap: int) -> "Image":
    strip = blank_strip(left.width + gap + right.width, max(left.height, right.height))
    strip.paste(left, (0, 0))
    strip.paste(right, (left.width + gap, 0))
    return strip


def stack_strips(strips: Sequence["Image"]) -> np.ndarray:
    """Return pictures of one width below each other, RGB, uint8 [height, width, 3]."""
    canvas = blank_strip(strips[0].width, sum(strip.height for strip in strips))
    top = 0
    for strip in strips:
        canvas.paste(strip, (0, top))
        top += strip.height
    return np.asarray(canvas)
