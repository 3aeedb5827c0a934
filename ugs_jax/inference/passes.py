"""Run a detector on windows of an image, in batches of one size; detections are in px of the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipeline.augment.warp import GREY
from data_pipeline.letterbox import Letterbox, letterbox, letterbox_of
from ugs_jax.detectors import Detections
from ugs_jax.evaluation import ImageDetections, to_original
from ugs_jax.evaluation.detections import concatenate
from ugs_jax.inference.tiles import Window, WindowedImage, check_image, read_window

ImageDetector = Callable[[Any], Detections]
"""Function from images [b, h, w, 3] uint8 to detections in their px. It is jitted: each size is compiled once."""

_BORDER = 2.0  # px of the network's input: a box that ends within this distance of a tile's border counts as cut


@dataclass(frozen=True)
class View:
    """Input of the network that is made from a window.

    Attributes:
      size: Height and width to which the window is letterboxed, px.
      flip: Mirrors the letterboxed window left to right.
    """

    size: tuple[int, int]
    flip: bool = False


def views_of(size: tuple[int, int], scales: Sequence[float], flip: bool) -> list[View]:
    """Return the views at all scales of a size, each followed by its mirror image if `flip` is set.

    Args:
      size: Height and width at scale 1, px.
      scales: Scales of the views. Each side becomes the multiple of 32 nearest to scale · side, at least 32.
      flip: Adds the mirror image of every view.

    Raises:
      ValueError: There is no scale, or a scale is not positive.
    """
    if not scales or any(not scale > 0 for scale in scales):
        raise ValueError(f"scales: expected at least one, all above 0, got {tuple(scales)}")
    sizes = [(max(1, round(size[0] * s / 32)) * 32, max(1, round(size[1] * s / 32)) * 32) for s in scales]
    return [View(each, mirrored) for each in sizes for mirrored in ((False, True) if flip else (False,))]


def run_pass(
    detect: ImageDetector, image: WindowedImage, windows: Sequence[Window], view: View, batch: int, min_score: float
) -> tuple[ImageDetections, Bool[np.ndarray, " n"]]:
    """Return the detections in all windows of an image, without merging.

    While the device computes a batch, the windows of the next batch are read.

    Args:
      detect: Jitted detector.
      image: Image, of which only the windows are read.
      windows: One or more windows, all of the same height and width.
      view: View of every window that the network gets.
      batch: Number of windows per batch. The last batch is padded with grey windows.
      min_score: Score that a detection has to exceed.

    Returns:
      Detections with boxes clipped to their window and to the image, and the mask of boxes that reach a border of their
      window inside the image.
    """
    extent = check_image(image)
    parts: list[tuple[ImageDetections, np.ndarray]] = []
    waiting: tuple[Sequence[Window], Detections] | None = None
    for start in range(0, len(windows), batch):
        some = windows[start : start + batch]
        running = detect(_inputs(image, some, view, batch))
        if waiting:
            parts += _placed(*waiting, view, extent, min_score)
        waiting = some, running
    if waiting:
        parts += _placed(*waiting, view, extent, min_score)
    return concatenate([each for each, _ in parts]), np.concatenate([cut for _, cut in parts])


def _inputs(image: WindowedImage, windows: Sequence[Window], view: View, batch: int) -> UInt8[np.ndarray, "b h w 3"]:
    inputs = np.full((batch, *view.size, 3), GREY, np.uint8)
    for row, window in zip(inputs, windows, strict=False):
        canvas, _ = letterbox(read_window(image, window), view.size)
        row[:] = canvas[:, ::-1] if view.flip else canvas
    return inputs


def _placed(
    windows: Sequence[Window], detections: Detections, view: View, extent: tuple[int, int], min_score: float
) -> list[tuple[ImageDetections, np.ndarray]]:
    """Return the detections of every window in px of the image, and which of them the window cuts."""
    on_host: Any = jax.device_get(detections)
    box = letterbox_of(windows[0].height, windows[0].width, view.size)
    parts = []
    for i, window in enumerate(windows):
        seen = on_host.valid[i] & (on_host.scores[i] > min_score)
        boxes = _unflipped(on_host.boxes[i][seen], view)
        deviation = None if on_host.deviation is None else on_host.deviation[i][seen]
        if deviation is not None:
            deviation = (deviation[:, [2, 1, 0, 3]] if view.flip else deviation).astype(np.float64) / box.scale
        boxes, cut = _in_image(boxes, box, window, extent)
        parts.append((ImageDetections(boxes, on_host.scores[i][seen], on_host.classes[i][seen], deviation), cut))
    return parts


def _unflipped(boxes: Float[np.ndarray, "n 4"], view: View) -> Float[np.ndarray, "n 4"]:
    if not view.flip:
        return boxes
    flipped = boxes[:, [2, 1, 0, 3]]
    flipped[:, [0, 2]] = view.size[1] - flipped[:, [0, 2]]
    return flipped


def _in_image(
    boxes: Float[np.ndarray, "n 4"], box: Letterbox, window: Window, extent: tuple[int, int]
) -> tuple[Float[np.ndarray, "n 4"], np.ndarray]:
    """Return the boxes in px of the image, and the mask of those that the window cuts."""
    size = np.asarray([[window.height, window.width]], np.int32)
    local = to_original(boxes[None], np.asarray([box], np.float32), size)[0].astype(np.float64)
    near = _BORDER / box.scale
    inner = (
        window.left > 0,
        window.top > 0,
        window.left + window.width < extent[1],
        window.top + window.height < extent[0],
    )
    reached = np.concatenate([local[:, :2] <= near, local[:, 2:] >= size[:, ::-1] - near], axis=1)
    placed = local + np.array([window.left, window.top, window.left, window.top])
    return np.clip(placed, 0, np.array([*extent[::-1], *extent[::-1]])), np.any(reached & inner, axis=1)
