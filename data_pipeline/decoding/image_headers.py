"""Sizes and ends of JPEG and PNG files, read from their segments and chunks without decoding."""

from collections.abc import Iterator
from typing import NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # the markers in 0xC0…0xCF that do not begin a frame
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xD9))


class Header(NamedTuple):
    """Height and width of the stored picture, px."""

    height: int
    width: int


def header_of(data: bytes) -> Header | None:
    """Return the size in the header of a JPEG or PNG file, px. None for other files and for a missing size."""
    if data.startswith(PNG_SIGNATURE) and len(data) >= 24:
        return Header(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
    if data.startswith(JPEG_SIGNATURE):
        for marker, start, end in jpeg_segments(data):
            if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME and end - start >= 5:
                height, width = data[start + 1 : start + 3], data[start + 3 : start + 5]
                return Header(int.from_bytes(height, "big"), int.from_bytes(width, "big"))
    return None


def is_complete(data: bytes) -> bool:
    """Return True if a JPEG or PNG file has its end marker, and for all other files."""
    if data.startswith(JPEG_SIGNATURE):
        scans = [start for marker, start, _ in jpeg_segments(data) if marker == _START_OF_SCAN]
        return bool(scans) and data.find(END_OF_IMAGE, scans[0]) >= 0
    if data.startswith(PNG_SIGNATURE):
        return any(kind == b"IEND" for kind, _, _ in png_chunks(data))
    return True


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, first byte and end of each JPEG segment up to the first scan.

    Embedded thumbnails lie inside segments. Stray bytes between segments are skipped, as libjpeg does.
    """
    position = 2
    while position + 4 <= len(data):
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data):
            return
        marker = data[position + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, position + 4, position + 2 + length
        if marker == _START_OF_SCAN or length < 2:
            return
        position += 2 + length


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of the content of each complete PNG chunk."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, start = data[position + 4 : position + 8], position + 8
        position = start + length + 4
        if position > len(data):
            return
        yield kind, start, start + length
        if kind == b"IEND":
            return
