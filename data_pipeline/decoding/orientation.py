"""EXIF orientation of image files."""

import io
import warnings

_TAG = 274
_TURNED = (5, 6, 7, 8)


def is_turned(data: bytes) -> bool:
    """Tell whether EXIF turns an image by 90°, so that its stored width is its height when upright."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return image.getexif().get(_TAG) in _TURNED
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError):
        return False
