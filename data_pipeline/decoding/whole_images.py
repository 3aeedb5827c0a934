"""Detection of damage inside complete image files. Decoders fill damaged parts with grey or garbage and go on."""

import os
import re
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from data_pipeline.decoding.image_headers import END_OF_IMAGE, JPEG_SIGNATURE, PNG_SIGNATURE, png_chunks
from data_pipeline.decoding.images import check_complete, decode_image
from data_pipeline.errors import DataError

T = TypeVar("T")
_COMPLAINT = re.compile(rb"^(Corrupt JPEG data: .*|Premature end of JPEG file.*|Inconsistent progression .*)$", re.M)
_STRAY = re.compile(rb"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]+)")
_RESTARTS = range(0xD0, 0xD8)
_STDERR = threading.Lock()


def decode_whole_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image as `decode_image` does, and raise an error if it is damaged inside.

    For PNG files, the checksums are compared. For JPEG files, the warnings of libjpeg are read, which it writes to
    standard error without a file name. Stray bytes between the parts of a complete picture do not count as damage.

    Args:
      data: Bytes of one image file.
      name: Name of the image for error messages.

    Returns:
      RGB image, uint8 [H, W, 3].

    Raises:
      DataError: `decode_image` raises it, or the file is damaged inside.
    """
    check_complete(data, name)
    damage = _png_damage(data) if data.startswith(PNG_SIGNATURE) else None
    if damage is None and data.startswith(JPEG_SIGNATURE):
        pixels, lines = _with_stderr(lambda: decode_image(data, name))
        damage = next(
            (line.decode() for line in _COMPLAINT.findall(lines) if not _is_harmless(line, data)),
            None,
        )
    else:
        pixels = decode_image(data, name) if damage is None else np.zeros((0, 0, 3), np.uint8)
    if damage is not None:
        raise DataError(
            f"{name}: expected a whole image, got one that is damaged inside ({damage}). "
            "Fix: copy the file again from its source, or remove the image from the annotations."
        )
    return pixels


def _png_damage(data: bytes) -> str | None:
    """Return a description of wrong checksums or damaged compressed pixels of a PNG file; None for an intact file."""
    pixels = zlib.decompressobj()
    for kind, start, end in png_chunks(data):
        if kind[:1].isupper() and zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return f"the checksum of its chunk {kind.decode('latin-1')} is wrong"
        if kind == b"IDAT" and not pixels.eof:
            try:
                pixels.decompress(data[start:end])
            except zlib.error as error:
                return f"its pixels cannot be decompressed: {error}"
    return None if pixels.eof else "some of its pixels are missing"


def _is_harmless(line: bytes, data: bytes) -> bool:
    """Return True if a warning is only about stray bytes between headers, or about padding before the end."""
    match = _STRAY.match(line)
    if match is None:
        return False
    count, marker = int(match[1]), int(match[2], 16)
    if marker != END_OF_IMAGE[1]:
        return marker not in _RESTARTS
    end = data.rfind(END_OF_IMAGE)
    stray = data[max(0, end - count) : end]
    return count <= 2 or not stray.strip(stray[:1])


def _with_stderr(call: Callable[[], T]) -> tuple[T, bytes]:
    """Return the value of a call, and the bytes that it wrote to standard error below the level of Python.

    Lines that are not warnings of libjpeg are written back to standard error.
    """
    with _STDERR, tempfile.TemporaryFile() as file:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, ValueError, AttributeError):  # the process has no standard error
            return call(), b""
        try:
            os.dup2(file.fileno(), 2)
            value = call()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines = file.read()
            others = _COMPLAINT.sub(b"", lines).strip(b"\n")
            if others:
                os.write(2, others + b"\n")
        return value, lines
