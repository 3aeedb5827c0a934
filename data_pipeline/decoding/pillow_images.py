"""Decoding of TIFF and BMP files with Pillow, which reads their variants more reliably than OpenCV."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

BY_PILLOW = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"BM")
_BITS, _COMPRESSION, _INTERPRETATION, _PLANES, _FORMATS = 258, 259, 262, 284, 339  # TIFF tags
_NOT_COMPRESSED, _WHITE_IS_ZERO, _SEPARATE, _UNSIGNED = 1, 0, 2, 1
_CONVERTED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def decode_by_pillow(data: bytes) -> np.ndarray:
    """Return the first page of a TIFF or BMP file as 8-bit RGB, upright.

    16-bit samples are scaled so that 65535 becomes 255. Colours that were multiplied by their alpha channel are divided
    by it.

    Args:
      data: Bytes of the file.

    Returns:
      RGB image, uint8 [H, W, 3].

    Raises:
      ValueError: The samples have no 8-bit RGB form.
      OSError: The file is damaged or truncated, or Pillow does not support its layout.
    """
    from PIL import Image, ImageOps

    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about metadata, and about sizes that Image.open takes for an attack
        kind = "BMP" if data.startswith(b"BM") else "TIFF"
        stored = Image.OPEN[kind][0](io.BytesIO(data), "")
        tags = getattr(stored, "tag_v2", {})
        _check_samples(tags)
        stored.load()
        upright = ImageOps.exif_transpose(stored)
        if upright.mode.startswith("I;16"):
            grey = np.asarray(upright).astype(np.uint32)
            grey = 65535 - grey if tags.get(_INTERPRETATION) == _WHITE_IS_ZERO else grey
            return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
        if upright.mode == "RGBa":
            upright = upright.convert("RGBA")
        if upright.mode not in _CONVERTED:
            raise ValueError(f"expected 8- or 16-bit unsigned samples, got mode {upright.mode}")
        return np.array(upright.convert("RGB"))


def _check_samples(tags: Mapping[int, Any]) -> None:
    """Raise an error for layouts that Pillow misinterprets."""
    formats, bits = tags.get(_FORMATS, (_UNSIGNED,)), tags.get(_BITS, (1,))
    if any(each != _UNSIGNED for each in formats):
        raise ValueError("samples are signed or floating point")
    separate = tags.get(_PLANES) == _SEPARATE and tags.get(_COMPRESSION) == _NOT_COMPRESSED
    if separate and max(bits) > 8 and len(bits) > 1:
        raise ValueError("16-bit samples lie in separate planes without compression")
