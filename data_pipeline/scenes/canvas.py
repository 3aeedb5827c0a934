"""Canvas on which a scene is painted at a multiple of its final resolution, with the owner of every pixel."""

from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.scenes.sprite import Sprite

SUPERSAMPLING = 3


class Placed(NamedTuple):
    """Position of a pasted sprite.

    Attributes:
      box: Box of the sprite, xyxy px of the final image, clipped to it.
      window: Rows and columns of that box on the canvas.
      area: Area of the whole outline, canvas px, including hidden parts and parts outside the image.
    """

    box: tuple[float, float, float, float]
    window: tuple[slice, slice]
    area: int


class Canvas:
    """RGB pixels and their owners. Coordinates are canvas px: `SUPERSAMPLING` of them make one px of the image."""

    def __init__(self, pixels: np.ndarray) -> None:
        """Start from a painted background, uint8 [H, W, 3]."""
        self.pixels = pixels
        self.owner: np.ndarray = np.zeros(pixels.shape[:2], np.int32)

    def shade(self, sprite: Sprite, x: float, y: float, strength: float) -> None:
        """Darken the ground under the outline of a sprite centred at (x, y) by the fraction `strength`."""
        windows = self._windows(sprite, x, y)
        if windows is not None:
            target, source = windows
            darker = cv2.convertScaleAbs(self.pixels[target], alpha=1.0 - strength)
            cv2.copyTo(darker, sprite.mask[source], self.pixels[target])

    def paste(self, sprite: Sprite, x: float, y: float, owner: int) -> Placed | None:
        """Paste a sprite centred at (x, y) on top. Returns None if no part of it lies inside the image."""
        windows = self._windows(sprite, x, y)
        if windows is None:
            return None
        target, source = windows
        cv2.copyTo(sprite.pixels[source], sprite.mask[source], self.pixels[target])
        self.owner[target][sprite.mask[source] > 0] = owner
        left, top, width, height = cv2.boundingRect(np.ascontiguousarray(sprite.mask[source]))
        x0, y0 = target[1].start + left, target[0].start + top
        corners = (x0, y0, x0 + width, y0 + height)
        x0, y0, x1, y1 = (corner / SUPERSAMPLING for corner in corners)
        window = slice(corners[1], corners[3]), slice(corners[0], corners[2])
        return Placed((x0, y0, x1, y1), window, cv2.countNonZero(sprite.mask))

    def occupied(self, x: float, y: float, side: float) -> float:
        """Return the fraction of a square around (x, y) that objects already own; 1 if (x, y) is outside the image."""
        height, width = self.owner.shape
        if not (0 <= x < width and 0 <= y < height):
            return 1.0
        half = max(1, round(side / 2))
        top, left = max(0, round(y) - half), max(0, round(x) - half)
        window = self.owner[top : round(y) + half, left : round(x) + half]
        return np.count_nonzero(window) / max(1, window.size)

    def visible(self, placed: Placed, owner: int) -> float:
        """Return the fraction of a pasted sprite's outline that lies inside the image and is not covered."""
        return float(np.count_nonzero(self.owner[placed.window] == owner)) / placed.area

    def image(self) -> np.ndarray:
        """Return the picture at its final resolution, uint8 [H, W, 3]."""
        height, width = self.owner.shape
        size = (width // SUPERSAMPLING, height // SUPERSAMPLING)
        return cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)

    def _windows(self, sprite: Sprite, x: float, y: float) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        height, width = sprite.mask.shape
        left, top = round(x - width / 2), round(y - height / 2)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, self.owner.shape[1]), min(top + height, self.owner.shape[0])
        if x0 >= x1 or y0 >= y1:
            return None
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
