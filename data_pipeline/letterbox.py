"""Letterbox: an image scaled to fit a fixed size with its aspect ratio, centred on grey, and the map of its boxes."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipeline.augment.geometry import Matrix, scaling
from data_pipeline.augment.warp import grey_canvas, paste


class Letterbox(NamedTuple):
    """The exact map `batch_xy = original_xy * scale + pad`.

    Attributes:
      scale: Output px per original px, the same along both axes.
      pad_x: Grey px to the left of the image.
      pad_y: Grey px above the image.
    """

    scale: float
    pad_x: float
    pad_y: float

    def matrix(self) -> Matrix:
        """Return the matrix from px of the original to px of the output."""
        return np.array([[self.scale, 0.0, self.pad_x], [0.0, self.scale, self.pad_y], [0.0, 0.0, 1.0]])


def letterbox_of(height: int, width: int, size: tuple[int, int]) -> Letterbox:
    """Return the map that fits an image of height × width px into `size` (height, width) px. Small images are enlarged.

    The scale is rounded to float32, so that the `letterbox` field of a batch holds it exactly. The pads are whole
    pixels, so that shrinking and padding together resample only once.
    """
    scale = float(np.float32(min(size[0] / height, size[1] / width)))
    spare_y, spare_x = (max(0, out - round(side * scale)) for out, side in zip(size, (height, width), strict=True))
    return Letterbox(scale, float(spare_x // 2), float(spare_y // 2))


def shrink(image: UInt8[np.ndarray, "h w 3"], scale: float) -> UInt8[np.ndarray, "H W 3"]:
    """Scale an image down by area averaging. Bilinear sampling would lose small objects to aliasing.

    OpenCV is given the scale instead of the rounded size. Point (x, y) is therefore mapped to (x·scale, y·scale) along
    both axes, and the last row or column may be covered only in part.

    Args:
      image: RGB image.
      scale: Output px per input px. At 1 or more, the image is returned unchanged.

    Returns:
      RGB image of round(h·scale) × round(w·scale) px, at least one pixel per side.
    """
    if scale >= 1.0:
        return image
    height, width = image.shape[:2]
    if min(round(height * scale), round(width * scale)) < 1:  # thinner than half a pixel
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def letterbox(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> tuple[UInt8[np.ndarray, "H W 3"], Letterbox]:
    """Letterbox an image of any size.

    Args:
      image: RGB image.
      size: Height and width of the output, px.

    Returns:
      RGB image, filled with grey 114 around the original, and the map from the original to it.
    """
    box = letterbox_of(image.shape[0], image.shape[1], size)
    canvas = grey_canvas(size)
    shrunk = shrink(image, box.scale)
    paste(canvas, shrunk, box.matrix() @ scaling(*(1.0 / min(1.0, box.scale),) * 2))
    return canvas, box
