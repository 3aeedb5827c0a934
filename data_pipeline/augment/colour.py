"""Random changes of hue, saturation and value with 8-bit lookup tables."""

import cv2
import numpy as np
from jaxtyping import UInt8


def jitter_hsv(
    image: UInt8[np.ndarray, "H W 3"], gains: tuple[float, float, float], rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Multiply hue, saturation and value by 1 + U(−1, 1)·gain each.

    Args:
      image: RGB image.
      gains: Gains of hue (which wraps around), saturation and value (which saturate).
      rng: Random generator. It draws three numbers for any gains.

    Returns:
      RGB image.
    """
    hue, saturation, value = 1.0 + rng.uniform(-1.0, 1.0, 3) * gains
    if not any(gains):
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, hsv_tables(hue, saturation, value)), cv2.COLOR_HSV2RGB)


def hsv_tables(hue: float, saturation: float, value: float) -> UInt8[np.ndarray, "1 256 3"]:
    """Return lookup tables that apply factors to OpenCV's 8-bit HSV, where hue has steps of 2° (mod 180)."""
    levels = np.arange(256)
    table = np.stack(
        [
            np.round(levels * hue) % 180,
            np.clip(np.round(levels * saturation), 0, 255),
            np.clip(np.round(levels * value), 0, 255),
        ],
        axis=-1,
    )
    return table.astype(np.uint8)[None]
