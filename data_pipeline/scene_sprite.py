"""Draws one object as a cut-out: its pixels and its outline, whose extent is exactly the object's box."""

from typing import NamedTuple

import cv2
import numpy as np

Colour = tuple[float, float, float]
Points = list[tuple[float, float]]

_FRACTION_BITS = 4


class Sprite(NamedTuple):
    """A cut-out, cropped to its outline.

    Attributes:
      pixels: uint8 [h, w, 3], RGB.
      mask: uint8 [h, w], 255 inside the outline.
    """

    pixels: np.ndarray
    mask: np.ndarray


class Brush:
    """Draws shapes given in an object's own frame, x and y in [-0.5, 0.5], through a linear map to pixels."""

    def __init__(self, matrix: np.ndarray) -> None:
        """Prepares an empty patch.

        Args:
          matrix: float [2, 2], object frame to px.
        """
        self._matrix = matrix
        reach = np.abs(matrix).sum(1) * 0.5
        self._centre = np.ceil(reach) + 2
        width, height = (2 * self._centre + 1).astype(int)
        self._pixels = np.zeros((height, width, 3), np.uint8)
        self._mask = np.zeros((height, width), np.uint8)

    def polygon(self, points: Points | np.ndarray, colour: Colour) -> None:
        """Fills a convex polygon and adds it to the outline."""
        corners = np.asarray(points) @ self._matrix.T + self._centre - 0.5  # a pixel's centre is half a px inside it
        fixed = np.rint(corners * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillConvexPoly(self._pixels, fixed, colour, cv2.LINE_8, _FRACTION_BITS)
        cv2.fillConvexPoly(self._mask, fixed, 255, cv2.LINE_8, _FRACTION_BITS)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, corner: float = 0.0) -> None:
        """Fills an axis-parallel rectangle of the object frame whose corners are cut by the fraction `corner`."""
        cx, cy = corner * (x1 - x0), corner * (y1 - y0)
        points = [(x0 + cx, y0), (x1 - cx, y0), (x1, y0 + cy), (x1, y1 - cy)]
        points += [(x1 - cx, y1), (x0 + cx, y1), (x0, y1 - cy), (x0, y0 + cy)]
        self.polygon(points, colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Fills an ellipse."""
        self.polygon(_CIRCLE * (rx, ry) + (x, y), colour)

    def finish(self) -> Sprite:
        """Crops to what has been drawn."""
        x, y, width, height = cv2.boundingRect(self._mask)
        window = slice(y, y + height), slice(x, x + width)
        return Sprite(self._pixels[window], self._mask[window])


_CIRCLE = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False)])
