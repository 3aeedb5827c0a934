"""Where tiles lie on an image, and how they are read: only windows of the image are ever in memory."""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipeline.augment.warp import grey_canvas
from data_pipeline.letterbox import letterbox_of

_IN_MEMORY = 2**26  # px of an image that is read at once: 200 MB


@runtime_checkable
class WindowedImage(Protocol):
    """An RGB image [height, width, 3] of 8 bits that is read by slices: `np.ndarray`, `np.memmap`, Zarr arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, 3."""

    @property
    def dtype(self) -> Any:
        """uint8."""

    def __getitem__(self, index: Any, /) -> Any:
        """A window, for two slices."""


class Window(NamedTuple):
    """A rectangle of an image, px; it may reach over the right and the lower border."""

    top: int
    left: int
    height: int
    width: int


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First px of the tiles along one axis: they cover it, neighbours share `overlap` of a tile or more.

    Every interval of up to ⌈overlap · tile⌉ px lies inside one tile.

    Args:
      length: of the axis, px.
      tile: length of a tile, px; longer than the axis gives one tile that reaches over its end.
      overlap: share of a tile, in [0, 1).

    Returns:
      Strictly increasing; the last tile ends where the axis ends.

    Raises:
      ValueError: a number out of range, or no step left between tiles.

    Example:
      >>> tile_starts(1500, tile=640, overlap=0.2)
      [0, 512, 860]
    """
    if length < 1 or tile < 1:
        raise ValueError(f"tiles: expected an image and tiles of at least 1 px a side, got {length} and {tile}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap: expected a share of the tile in [0, 1), got {overlap}; 0.2 is usual")
    step = tile - math.ceil(round(tile * overlap, 6))
    if step < 1:
        raise ValueError(f"overlap: expected tiles of {tile} px to advance by 1 px or more, got {overlap}; lower it")
    if length <= tile:
        return [0]
    return [min(k * step, length - tile) for k in range(math.ceil((length - tile) / step) + 1)]


def tile_windows(height: int, width: int, tile: tuple[int, int], overlap: float) -> list[Window]:
    """Tiles of one size that cover an image, row by row.

    Args:
      height: of the image, px.
      width: of the image, px.
      tile: height and width of a tile, px.
      overlap: least share of a tile that it has in common with its neighbour, along each axis.

    Raises:
      ValueError: as `tile_starts`.
    """
    columns = tile_starts(width, tile[1], overlap)
    return [Window(top, left, *tile) for top in tile_starts(height, tile[0], overlap) for left in columns]


def read_window(image: WindowedImage, window: Window) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a window, grey (114) where it reaches over the image."""
    part = np.asarray(image[window.top : window.top + window.height, window.left : window.left + window.width])
    if part.shape[:2] == (window.height, window.width):
        return part
    canvas = grey_canvas((window.height, window.width))
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas


def check_image(image: WindowedImage) -> tuple[int, int]:
    """Height and width of an image.

    Raises:
      ValueError: no 8-bit RGB image [height, width, 3] with at least one pixel.
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
    """The whole image, reduced by a whole number where it is too large to be read at once.

    It is then read in bands, and every n × n pixels become their mean; the largest n is taken that leaves the rest of
    the way to `size` to the letterbox.

    Args:
      image: of any size.
      size: height and width that it will be letterboxed to, px.
      in_memory: px up to which it is read as it is.

    Returns:
      RGB, and n: its point (x, y) is (n·x, n·y) px of the image.
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
