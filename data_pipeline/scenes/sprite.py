"""Drawing of one object as a cut-out: its pixels and its outline, whose extent is exactly the object's box."""

from typing import NamedTuple

import cv2
import numpy as np

Colour = tuple[float, float, float]
Points = list[tuple[float, float]]

_FRACTION_BITS = 4


class Sprite(NamedTuple):
    """A cut-out, cropped to its outline.

    Attributes:
      pixels: RGB pixels, uint8 [h, w, 3].
      mask: Mask, 255 inside the outline, uint8 [h, w].
    """

    pixels: np.ndarray
    mask: np.ndarray


class Brush:
    """Collects shapes in an object's own frame and draws them at a given size."""

    def __init__(self, matrix: np.ndarray) -> None:
        """Start without shapes.

        Args:
          matrix: Map from the object's frame to the image axes, up to scale, float [2, 2].
        """
        self._matrix = matrix
        self._shapes: list[np.ndarray] = []
        self._colours: list[Colour] = []

    def polygon(self, points: Points | np.ndarray, colour: Colour) -> None:
        """Add a convex polygon on top of the earlier shapes."""
        self._shapes.append(np.asarray(points))
        self._colours.append(colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, corner: float = 0.0) -> None:
        """Add an axis-parallel rectangle of the object's frame. Its corners are cut off by the fraction `corner`."""
        cx, cy = corner * (x1 - x0), corner * (y1 - y0)
        points = [(x0 + cx, y0), (x1 - cx, y0), (x1, y0 + cy), (x1, y1 - cy)]
        points += [(x1 - cx, y1), (x0 + cx, y1), (x0, y1 - cy), (x0, y0 + cy)]
        self.polygon(points, colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Add an ellipse with centre (x, y) and radii (rx, ry)."""
        self.polygon(_CIRCLE * (rx, ry) + (x, y), colour)

    def finish(self, size: float) -> Sprite:
        """Draw the shapes, scaled so that the square root of their box's area is `size` px."""
        corners = np.concatenate(self._shapes) @ self._matrix.T
        low, high = corners.min(0), corners.max(0)
        scale = size / np.sqrt((high - low).prod())
        width, height = np.ceil((high - low) * scale).astype(int).tolist()
        pixels = np.zeros((height + 3, width + 3, 3), np.uint8)
        mask = np.zeros((height + 3, width + 3), np.uint8)
        # The centre of a pixel lies half a px inside it. There is a margin of one px on all sides.
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
