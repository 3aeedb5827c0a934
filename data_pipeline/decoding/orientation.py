"""EXIF orientation of image files."""

import io
import warnings

ORIENTATION = 274
TURNED = (5, 6, 7, 8)
"""Values of the EXIF tag `ORIENTATION` that rotate an image by 90°."""


def is_turned(data: bytes) -> bool:
    """Return True if EXIF rotates an image by 90°, so that its stored width is its height when upright."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return image.getexif().get(ORIENTATION) in TURNED
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError):
        return False
