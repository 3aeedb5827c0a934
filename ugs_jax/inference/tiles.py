"""Inputs of tiled inference: checks of an image, and its overview. Only windows of the image are in memory at a time.

Training and inference share the positions of tiles, `tile_starts` and `tile_windows`, from `data_pipeline.tiling`.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipeline.letterbox import letterbox_of
from data_pipeline.tiling.windows import Window as Window
from data_pipeline.tiling.windows import WindowedImage as WindowedImage
from data_pipeline.tiling.windows import read_window as read_window
from data_pipeline.tiling.windows import tile_starts as tile_starts
from data_pipeline.tiling.windows import tile_windows as tile_windows

_IN_MEMORY = 2**26  # largest image that is read at once, px: 200 MB


def check_image(image: WindowedImage) -> tuple[int, int]:
    """Return height and width of an image, after checking it.

    Raises:
      ValueError: The image is not an 8-bit RGB image [height, width, 3] with at least one pixel.
    """
    shape, dtype = tuple(image.shape), image.dtype
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8 or 0 in shape:
        raise ValueError(
            f"image: expected uint8 of shape (height, width, 3), got {dtype} of shape {shape}; "
            "scale samples to 0…255 and repeat a grey channel three times"
        )
    return int(shape[0]), int(shape[1])


def overview(
    image: WindowedImage, size: tuple[int, int], in_memory: int = _IN_MEMORY
) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
    """Return the whole image, reduced by an integer factor if it is too large to be read at once.

    A large image is read in bands, and every n × n pixels are replaced by their mean. n is the largest factor after
    which the letterbox to `size` still does not enlarge.

    Args:
      image: Image of any size.
      size: Height and width to which the image will be letterboxed, px.
      in_memory: Largest image that is read at full resolution, px.

    Returns:
      Pair of the RGB image and n. Its point (x, y) is (n·x, n·y) px of the original image.
    """
    height, width = check_image(image)
    factor = int(1 / letterbox_of(height, width, size).scale) if height * width > in_memory else 1
    if factor < 2:
        return np.asarray(image[:, :]), 1
    rows, columns = -(-height // factor), -(-width // factor)
    reduced = np.empty((rows, columns, 3), np.uint8)
    band = max(1, in_memory // (factor * width))
    for row in range(0, rows, band):
        part = np.asarray(image[row * factor : (row + band) * factor, :])
        missing = -part.shape[0] % factor, -part.shape[1] % factor
        part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        shape = (part.shape[1] // factor, part.shape[0] // factor)
        reduced[row : row + shape[1]] = cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
    return reduced, factor
