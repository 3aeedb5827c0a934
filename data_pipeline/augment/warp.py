"""Pasting of warped images into a canvas, exact enough that boxes stay correct to a fraction of a pixel."""

import math

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from data_pipeline.augment.geometry import (
    Matrix,
    Number,
    corners,
    is_axis_aligned,
    pixel_index_matrix,
    scaling,
    translation,
    warp_points,
)

GREY = 114  # Value of all padding: close to the mean of natural images, so that a border is not a strong edge.


def grey_canvas(size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Return a grey RGB image of `size` (height, width) px."""
    return np.full((*size, 3), GREY, np.uint8)


def covers(height: Number, width: Number, matrix: Matrix, size: tuple[int, int]) -> bool:
    """Return True if any part of a warped image of height × width px may be visible in an output of `size` px."""
    quad = warp_points(corners(height, width), matrix)
    rows, columns = _window(quad, size)
    return rows.start < rows.stop and columns.start < columns.stop


def paste(
    canvas: UInt8[np.ndarray, "H W 3"],
    image: UInt8[np.ndarray, "h w 3"],
    matrix: Matrix,
    extent: tuple[Number, Number] | None = None,
) -> None:
    """Draw a warped image into the canvas, on exactly the pixels whose centres the image covers.

    The image is halved by area averaging as long as the scale is below ½, and then sampled bilinearly. Neighbouring
    images that share an edge leave no seam.

    Args:
      canvas: RGB canvas, changed in place.
      image: RGB image.
      matrix: Map from px of `image` to px of `canvas`, both with continuous edges.
      extent: True height and width in px of `image`, if shrinking has rounded its shape. Its shape by default.
    """
    height, width = image.shape[:2]
    whole_shift = _is_whole_shift(matrix)
    quad = warp_points(corners(*(extent if extent and not whole_shift else (height, width))), matrix)
    rows, columns = _window(quad, canvas.shape[:2])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    target = canvas[rows, columns]
    if whole_shift:
        top, left = rows.start - round(matrix[1, 2]), columns.start - round(matrix[0, 2])
        target[:] = image[top : top + target.shape[0], left : left + target.shape[1]]
        return
    drawn = _warp(image, translation(-columns.start, -rows.start) @ matrix, target.shape[:2])
    if is_axis_aligned(matrix):
        target[:] = drawn
    else:
        target[:] = cv2.copyTo(drawn, _inside(quad, rows, columns), target.copy())


def _window(quad: Float64[np.ndarray, "4 2"], size: tuple[int, ...]) -> tuple[slice, slice]:
    # Pixel k is covered if its centre k + ½ is in [low, high).
    low = np.ceil(quad.min(axis=0) - 0.5)
    high = np.ceil(quad.max(axis=0) - 0.5)
    (left, top), (right, bottom) = np.clip([low, high], 0, [size[1], size[0]]).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _is_whole_shift(matrix: Matrix) -> bool:
    shift = matrix[:2, 2]
    return bool(np.array_equal(matrix, translation(*shift)) and np.array_equal(shift, np.round(shift)))


def _warp(image: UInt8[np.ndarray, "h w 3"], matrix: Matrix, size: tuple[int, ...]) -> UInt8[np.ndarray, "H W 3"]:
    while math.sqrt(abs(np.linalg.det(matrix[:2, :2]))) < 0.5 and min(image.shape[:2]) > 1:
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        matrix = matrix @ scaling(2.0, 2.0)
    # Samples within half a pixel of the edge repeat the border. No covered pixel centre lies further out.
    index_matrix, shape = pixel_index_matrix(matrix), (size[1], size[0])
    if np.array_equal(matrix[2], [0.0, 0.0, 1.0]):
        return cv2.warpAffine(image, index_matrix[:2], shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.warpPerspective(image, index_matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _inside(quad: Float64[np.ndarray, "4 2"], rows: slice, columns: slice) -> UInt8[np.ndarray, "H W"]:
    # A convex shape covers one span of pixel centres in each row. The half-planes a·x + b·y + c ≥ 0 of its edges
    # bound the span.
    x = np.arange(columns.start, columns.stop) + 0.5
    y = np.arange(rows.start, rows.stop) + 0.5
    first, last = np.full(y.shape, -np.inf), np.full(y.shape, np.inf)
    following = np.roll(quad, -1, axis=0)
    turn = np.sign(np.sum(quad[:, 0] * following[:, 1] - quad[:, 1] * following[:, 0]))  # −1 after a flip
    for (x0, y0), (x1, y1) in zip(quad, following, strict=True):
        a, b = -turn * (y1 - y0), turn * (x1 - x0)
        rest = b * (y - y0) - a * x0
        if a > 0.0:
            first = np.maximum(first, -rest / a)
        elif a < 0.0:
            last = np.minimum(last, -rest / a)
        else:
            last = np.where(rest >= 0.0, last, -np.inf)
    return ((x >= first[:, None]) & (x < last[:, None])).astype(np.uint8)
