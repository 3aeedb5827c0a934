"""Decoding of image files. Every variant of real files becomes 8-bit RGB or a DataError."""

from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from data_pipeline.decoding.image_headers import header_of, is_complete
from data_pipeline.decoding.pillow_images import BY_PILLOW, decode_by_pillow
from data_pipeline.errors import DataError
from data_pipeline.known_files import known_file

_MOST_PIXELS = 1 << 30  # limits of OpenCV for the whole image and for a side
_LONGEST_SIDE = 1 << 20


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image file to 8-bit RGB, upright.

    EXIF orientation is applied, as `cv2.imread` and annotation programs do: boxes refer to the upright picture. Grey
    images are repeated into three channels, palettes and CMYK are converted, an alpha channel is dropped, and 16-bit
    samples are scaled so that 65535 becomes 255. If there are several pages or frames, the first is used.

    Args:
      data: Bytes of one JPEG, PNG, BMP, TIFF or WebP file.
      name: Name of the image for error messages.

    Returns:
      RGB image, uint8 [H, W, 3].

    Raises:
      DataError: The data is empty, truncated or not an image, its samples are not 8- or 16-bit unsigned, or it has more
        pixels than OpenCV reads.
    """
    check_complete(data, name)
    if data.startswith(BY_PILLOW):
        return _decode_by_pillow(data, name)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise DataError(_unreadable(data, name, f"OpenCV reports: {error.err}")) from error
    if decoded is None:
        raise DataError(_unreadable(data, name, "no decoder accepts it"))
    return cv2.cvtColor(_to_uint8(decoded, name), cv2.COLOR_BGR2RGB)


def read_image_file(path: Path) -> bytes:
    """Read an image file without decoding it.

    Raises:
      DataError: The file is missing or cannot be read.
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
    """Join a file name from an annotation file to its folder.

    Raises:
      DataError: The name leads out of the folder, because it is absolute or contains `..`.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    has_drive = len(name) > 1 and name[1] == ":"
    if not relative.parts or relative.is_absolute() or has_drive or ".." in relative.parts:
        raise DataError(
            f"file name {name!r}: expected a path inside {folder}, got one that leads elsewhere. "
            "Fix: write the name relative to the image folder, without '..'."
        )
    return folder.joinpath(*relative.parts)


def check_complete(data: bytes, name: str) -> None:
    """Raise an error for a file that is empty, truncated, too large or not an image, without decoding it.

    libjpeg and libpng fill the missing part of a truncated file with grey and only warn.

    Raises:
      DataError: The file has one of these faults. The message names the fault.
    """
    if not data:
        raise DataError(f"{name}: expected an image, got 0 bytes. Fix: copy the file again from its source.")
    if (known := known_file(data)) is not None:
        raise DataError(f"{name}: expected an image, got {known.name}. Fix: {known.fix}.")
    header = header_of(data)
    if header is not None and (header.height * header.width > _MOST_PIXELS or max(header[:2]) > _LONGEST_SIDE):
        raise DataError(
            f"{name}: expected at most 2^30 px and 2^20 px per side, the limits of OpenCV, got {header.width} × "
            f"{header.height} px. Fix: cut the image into tiles of a few thousand px, for example with "
            "`gdal_retile.py` or `vips dzsave`, or open it as an array that is read in windows (numpy.memmap, Zarr) "
            "and pass that to ugs_jax.inference.detect_image."
        )
    if not is_complete(data):
        raise DataError(
            f"{name}: expected a whole image, got a truncated file of {len(data)} bytes. "
            "Fix: copy the file again from its source, or remove the image from the annotations."
        )


def _decode_by_pillow(data: bytes, name: str) -> np.ndarray:
    try:
        return decode_by_pillow(data)
    except Exception as error:  # Pillow raises errors of any type for a damaged file
        stored = _by_opencv(data)
        if stored is not None and stored.dtype not in (np.uint8, np.uint16):
            _to_uint8(stored, name)
        reason = str(error).partition("<")[0].strip() or type(error).__name__
        raise DataError(_unreadable(data, name, f"Pillow reports: {reason}")) from error


def _by_opencv(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _to_uint8(stored: np.ndarray, name: str) -> np.ndarray:
    if stored.dtype == np.uint8:
        return stored
    if stored.dtype == np.uint16:
        return ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise DataError(
        f"{name}: expected 8- or 16-bit unsigned samples, got {stored.dtype}. "
        "Fix: convert the image to 8-bit PNG or JPEG."
    )


def _unreadable(data: bytes, name: str, reason: str) -> str:
    return (
        f"{name}: expected a JPEG, PNG, BMP, TIFF or WebP image, got {len(data)} bytes starting with {data[:8]!r} "
        f"({reason}). Fix: convert the file to JPEG or PNG, or copy it again from its source."
    )
