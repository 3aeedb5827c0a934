"""Plane geometry of augmentation: 3×3 matrices on points with continuous pixel edges (pixel k spans [k, k+1])."""

import math

import numpy as np
from jaxtyping import Float, Float64

Matrix = Float64[np.ndarray, "3 3"]  # maps (x, y, 1) px to homogeneous (x, y, w) px
Number = float | int


def translation(x: Number, y: Number) -> Matrix:
    """Return the matrix that moves points by (x, y) px."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float) -> Matrix:
    """Return the matrix that scales points about the origin, the outer corner of the first pixel."""
    return np.array([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def rotation(degrees: float) -> Matrix:
    """Return the matrix that rotates points about the origin, from the x to the y axis (clockwise on the screen)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def shearing(x_degrees: float, y_degrees: float) -> Matrix:
    """Return the matrix that adds tan(x_degrees)·y to x and tan(y_degrees)·x to y."""
    x, y = math.tan(math.radians(x_degrees)), math.tan(math.radians(y_degrees))
    return np.array([[1.0, x, 0.0], [y, 1.0, 0.0], [0.0, 0.0, 1.0]])


def perspective(x: float, y: float) -> Matrix:
    """Return the matrix that divides points (px, py) by 1 + x·px + y·py, with x and y in 1/px."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [x, y, 1.0]])


def mirror_x(width: Number) -> Matrix:
    """Return the matrix that flips an image of the given width (px) left to right."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def mirror_y(height: Number) -> Matrix:
    """Return the matrix that flips an image of the given height (px) upside down."""
    return np.array([[1.0, 0.0, 0.0], [0.0, -1.0, height], [0.0, 0.0, 1.0]])


def is_axis_aligned(matrix: Matrix) -> bool:
    """Return True if a matrix maps upright rectangles to upright rectangles, by scale, flip and shift only."""
    return bool(matrix[0, 1] == matrix[1, 0] == matrix[2, 0] == matrix[2, 1] == 0.0)


def pixel_index_matrix(matrix: Matrix) -> Matrix:
    """Return the same map for pixel indices, where OpenCV puts the centre of pixel k at k instead of k + ½."""
    return translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5)


def warp_points(points: Float64[np.ndarray, "*batch 2"], matrix: Matrix) -> Float64[np.ndarray, "*batch 2"]:
    """Map points by a matrix.

    Args:
      points: Points [..., 2], px.
      matrix: Matrix with positive w at every point.

    Returns:
      Mapped points, float64 [..., 2], px.
    """
    mapped = points @ matrix[:2, :2].T + matrix[:2, 2]
    return mapped / (points @ matrix[2, :2] + matrix[2, 2])[..., None]


def corners(height: Number, width: Number) -> Float64[np.ndarray, "4 2"]:
    """Return the corners of an image, clockwise on the screen from the origin: float64 [4, 2], px."""
    return np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])


def warp_quads(boxes: Float[np.ndarray, "n 4"], matrix: Matrix) -> Float64[np.ndarray, "n 4 2"]:
    """Return the warped corners of boxes [n, 4] xyxy px, in order around the box: float64 [n, 4, 2] px."""
    return warp_points(boxes.astype(np.float64)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), matrix)


def sides(boxes: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 2"]:
    """Return the widths and heights, px, of boxes xyxy px."""
    return boxes[:, 2:] - boxes[:, :2]
