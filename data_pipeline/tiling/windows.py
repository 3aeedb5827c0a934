"""Positions of tiles on an image, and reading of their pixels. Training and inference share them."""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from data_pipeline.augment.warp import grey_canvas


@runtime_checkable
class WindowedImage(Protocol):
    """An 8-bit RGB image [height, width, 3] that is read by slices: `np.ndarray`, `np.memmap`, Zarr arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (height, width, 3)."""

    @property
    def dtype(self) -> Any:
        """Data type, uint8."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return the window of two slices."""


class Window(NamedTuple):
    """A rectangle of an image, px, which may extend beyond the right and the lower border.

    Attributes:
      top: First row.
      left: First column.
      height: Number of rows.
      width: Number of columns.
    """

    top: int
    left: int
    height: int
    width: int


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return the first px of the tiles that cover one axis; neighbours share at least `overlap` of a tile.

    Every interval of up to ⌈overlap · tile⌉ px lies inside one tile.

    Args:
      length: Length of the axis, px.
      tile: Length of a tile, px. If it exceeds the axis, there is one tile, which extends beyond the end.
      overlap: Least share of a tile that neighbours have in common, in [0, 1).

    Returns:
      Strictly increasing positions. The last tile ends at the end of the axis.

    Raises:
      ValueError: A number is out of range, or tiles do not advance by at least 1 px.

    Example:
      >>> tile_starts(1500, tile=640, overlap=0.2)
      [0, 512, 860]
    """
    if length < 1 or tile < 1:
        raise ValueError(f"tiles: expected an image and tiles of at least 1 px per side, got {length} and {tile}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap: expected a share of the tile in [0, 1), got {overlap}; 0.2 is usual")
    step = tile - math.ceil(round(tile * overlap, 6))
    if step < 1:
        raise ValueError(f"overlap: expected tiles of {tile} px to advance by 1 px or more, got {overlap}; lower it")
    if length <= tile:
        return [0]
    return [min(k * step, length - tile) for k in range(math.ceil((length - tile) / step) + 1)]


def tile_windows(height: int, width: int, tile: tuple[int, int], overlap: float) -> list[Window]:
    """Return the tiles of one size that cover an image, row by row.

    Args:
      height: Height of the image, px.
      width: Width of the image, px.
      tile: Height and width of a tile, px.
      overlap: Least share of a tile that neighbours have in common, along each axis.

    Raises:
      ValueError: A number is out of range, or tiles do not advance by at least 1 px, as in `tile_starts`.
    """
    columns = tile_starts(width, tile[1], overlap)
    return [Window(top, left, *tile) for top in tile_starts(height, tile[0], overlap) for left in columns]


def read_window(image: WindowedImage, window: Window) -> UInt8[np.ndarray, "h w 3"]:
    """Return the pixels of a window, grey (114) outside the image."""
    part = np.asarray(image[window.top : window.top + window.height, window.left : window.left + window.width])
    if part.shape[:2] == (window.height, window.width):
        return part
    canvas = grey_canvas((window.height, window.width))
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas
