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
    """Collects shapes given in an object's own frame and draws them at the size asked for."""

    def __init__(self, matrix: np.ndarray) -> None:
        """Starts with nothing.

        Args:
          matrix: float [2, 2], object frame to image axes, up to scale.
        """
        self._matrix = matrix
        self._shapes: list[np.ndarray] = []
        self._colours: list[Colour] = []

    def polygon(self, points: Points | np.ndarray, colour: Colour) -> None:
        """Adds a convex polygon, on top of the shapes before it."""
        self._shapes.append(np.asarray(points))
        self._colours.append(colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, corner: float = 0.0) -> None:
        """Adds an axis-parallel rectangle of the object frame whose corners are cut by the fraction `corner`."""
        cx, cy = corner * (x1 - x0), corner * (y1 - y0)
        points = [(x0 + cx, y0), (x1 - cx, y0), (x1, y0 + cy), (x1, y1 - cy)]
        points += [(x1 - cx, y1), (x0 + cx, y1), (x0, y1 - cy), (x0, y0 + cy)]
        self.polygon(points, colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Adds an ellipse."""
        self.polygon(_CIRCLE * (rx, ry) + (x, y), colour)

    def finish(self, size: float) -> Sprite:
        """Draws the shapes, scaled so that the square root of their box's area is `size` px."""
        corners = np.concatenate(self._shapes) @ self._matrix.T
        low, high = corners.min(0), corners.max(0)
        scale = size / np.sqrt((high - low).prod())
        width, height = np.ceil((high - low) * scale).astype(int).tolist()
        pixels = np.zeros((height + 3, width + 3, 3), np.uint8)
        mask = np.zeros((height + 3, width + 3), np.uint8)
        # A pixel's centre is half a px inside it; one px of margin all around.
        fixed = np.rint(((corners - low) * scale + 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)
        start = 0
        for shape, colour in zip(self._shapes, self._colours, strict=True):
            outline = fixed[start : start + len(shape)]
            start += len(shape)
            cv2.fillConvexPoly(pixels, outline, colour, cv2.LINE_8, _FRACTION_BITS)
            cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_8, _FRACTION_BITS)
        x, y, width, height = cv2.boundingRect(mask)
        window = slice(y, y + height), slice(x, x + width)
        return Sprite(pixels[window], mask[window])


_CIRCLE = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False)])
