"""A detector over windows of an image: batches of one size in, detections in px of the image out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.augment.warp import GREY
from data_pipeline.letterbox import Letterbox, letterbox, letterbox_of
from ugs_jax.detectors import Detections
from ugs_jax.evaluation import to_original
from ugs_jax.inference.found import Found, concatenate
from ugs_jax.inference.tiles import Window, WindowedImage, check_image, read_window

Detect = Callable[[Any], Detections]
"""Images [b, h, w, 3] uint8 to detections in their px. Jitted, so that each size is compiled once."""

_BORDER = 2.0  # px of the network's input: how near a tile's border a box that it cuts ends


@dataclass(frozen=True)
class View:
    """How the network sees a window: letterboxed to `size` (height, width) px, then mirrored left to right or not."""

    size: tuple[int, int]
    flip: bool = False


def views_of(size: tuple[int, int], scales: Sequence[float], flip: bool) -> list[View]:
    """Views at scales of a size, each with its mirror image if `flip`.

    Args:
      size: height and width at scale 1, px.
      scales: each side becomes the multiple of 32 nearest to scale · side, at least 32.
      flip: whether mirror images are looked at too.

    Raises:
      ValueError: no scales, or one that is not positive.
    """
    if not scales or any(not scale > 0 for scale in scales):
        raise ValueError(f"scales: expected at least one, all above 0, got {tuple(scales)}")
    sizes = [(max(1, round(size[0] * s / 32)) * 32, max(1, round(size[1] * s / 32)) * 32) for s in scales]
    return [View(each, mirrored) for each in sizes for mirrored in ((False, True) if flip else (False,))]


def run_pass(
    detect: Detect, image: WindowedImage, windows: Sequence[Window], view: View, batch: int, min_score: float
) -> Found:
    """What a detector finds in windows of an image, not merged.

    While the device works on a batch, the windows of the next are read.

    Args:
      detect: the detector.
      image: read by `windows` only.
      windows: at least one, all of the same height and width.
      view: how the network sees each.
      batch: windows at a time; the last batch is filled up with grey ones.
      min_score: detections that score no more are dropped.

    Returns:
      Boxes clipped to their window and to the image; `cut` where one reaches a border of its window that is not one of
      the image.
    """
    extent = check_image(image)
    parts: list[Found] = []
    waiting: tuple[Sequence[Window], Detections] | None = None
    for start in range(0, len(windows), batch):
        some = windows[start : start + batch]
        running = detect(_inputs(image, some, view, batch))
        if waiting:
            parts += _placed(*waiting, view, extent, min_score)
        waiting = some, running
    if waiting:
        parts += _placed(*waiting, view, extent, min_score)
    return concatenate(parts)


def _inputs(image: WindowedImage, windows: Sequence[Window], view: View, batch: int) -> UInt8[np.ndarray, "b h w 3"]:
    inputs = np.full((batch, *view.size, 3), GREY, np.uint8)
    for row, window in zip(inputs, windows, strict=False):
        canvas, _ = letterbox(read_window(image, window), view.size)
        row[:] = canvas[:, ::-1] if view.flip else canvas
    return inputs


def _placed(
    windows: Sequence[Window], detections: Detections, view: View, extent: tuple[int, int], min_score: float
) -> list[Found]:
    found: Any = jax.device_get(detections)
    box = letterbox_of(windows[0].height, windows[0].width, view.size)
    parts = []
    for i, window in enumerate(windows):
        seen = found.valid[i] & (found.scores[i] > min_score)
        boxes = _unflipped(found.boxes[i][seen], view)
        deviation = None if found.deviation is None else found.deviation[i][seen]
        if deviation is not None:
            deviation = (deviation[:, [2, 1, 0, 3]] if view.flip else deviation).astype(np.float64) / box.scale
        boxes, cut = _in_image(boxes, box, window, extent)
        parts.append(Found(boxes, found.scores[i][seen], found.classes[i][seen], deviation, cut))
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
    """Boxes in px of the image, and which of them the window cuts."""
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
