"""Encoded image bytes to RGB pixels: every oddity of real files ends here, as 8-bit RGB or as a DataError."""

from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from data_pipeline.errors import DataError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes any file OpenCV reads to 8-bit RGB, in the pixel frame in which it is stored.

    Grey images are repeated into three channels, CMYK is converted, an alpha channel is dropped, 16-bit samples are
    scaled so that 65535 becomes 255. EXIF orientation is ignored: boxes refer to the pixels as stored.

    Args:
      data: the bytes of one JPEG, PNG, BMP, TIFF or WebP file.
      name: what to call the image in an error message.

    Returns:
      uint8 [H, W, 3], RGB.

    Raises:
      DataError: empty or truncated data, not an image, or a sample type other than 8- or 16-bit unsigned.
    """
    _check_complete(data, name)
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(_unreadable(data, name, f"OpenCV says: {error.err}")) from error
    if stored is None:
        raise DataError(_unreadable(data, name, "no decoder accepts it"))
    return _to_rgb(_to_uint8(stored, name), name)


def read_image_file(path: Path) -> bytes:
    """Reads an image file without decoding it.

    Raises:
      DataError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected an image file, found none. "
            "Fix: restore the file, or remove the image from the annotations."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: expected a readable image file, got {error.strerror}. Fix: check its type and permissions."
        ) from error


def path_inside(folder: Path, name: str) -> Path:
    """Joins a file name from an annotation file to its folder, refusing names that lead out of it.

    Raises:
      DataError: an absolute name, or one with `..` in it.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    has_drive = len(name) > 1 and name[1] == ":"
    if not relative.parts or relative.is_absolute() or has_drive or ".." in relative.parts:
        raise DataError(
            f"file name {name!r}: expected a path inside {folder}, got one that leads elsewhere. "
            "Fix: write the name relative to the image folder, without '..'."
        )
    return folder.joinpath(*relative.parts)


def _to_uint8(stored: np.ndarray, name: str) -> np.ndarray:
    if stored.dtype == np.uint8:
        return stored
    if stored.dtype == np.uint16:
        return ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise DataError(
        f"{name}: expected 8- or 16-bit unsigned samples, got {stored.dtype}. "
        "Fix: convert the image to 8-bit PNG or JPEG."
    )


def _to_rgb(stored: np.ndarray, name: str) -> np.ndarray:
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    conversions = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels == 2:  # grey with alpha
        return cv2.cvtColor(np.ascontiguousarray(stored[..., 0]), cv2.COLOR_GRAY2RGB)
    if channels not in conversions:
        raise DataError(f"{name}: expected 1 to 4 channels, got {channels}. Fix: convert the image to RGB.")
    return cv2.cvtColor(stored, conversions[channels])


def _check_complete(data: bytes, name: str) -> None:
    # libjpeg and libpng fill the missing part of a truncated file with grey and only warn, so OpenCV succeeds.
    if not data:
        raise DataError(f"{name}: expected an image, got 0 bytes. Fix: copy the file again from its source.")
    truncated = (data.startswith(_JPEG_SIGNATURE) and not _jpeg_ends(data)) or (
        data.startswith(_PNG_SIGNATURE) and not _png_ends(data)
    )
    if truncated:
        raise DataError(
            f"{name}: expected a whole image, got a truncated file of {len(data)} bytes. "
            "Fix: copy the file again from its source, or remove the image from the annotations."
        )


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan; embedded thumbnails, which have their own, are skipped."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xFF:  # fill byte
            position += 1
            continue
        if data[position + 1] == _START_OF_SCAN:
            return data.find(_END_OF_IMAGE, position) >= 0
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _png_ends(data: bytes) -> bool:
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + length
    return False


def _unreadable(data: bytes, name: str, reason: str) -> str:
    return (
        f"{name}: expected a JPEG, PNG, BMP, TIFF or WebP image, got {len(data)} bytes starting with {data[:8]!r} "
        f"({reason}). Fix: convert the file to JPEG or PNG, or copy it again from its source."
    )
