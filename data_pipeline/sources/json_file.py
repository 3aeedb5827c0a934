"""Reading of JSON files of other programs, in any encoding of JSON. Errors name the file and the position."""

import json
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.known_files import known_file


def read_json(path: Path, kind: str) -> Any:
    """Return the content of a JSON file.

    UTF-8, UTF-16 and UTF-32 are supported, with or without a byte order mark.

    Args:
      path: Path of the file.
      kind: Expected kind of file for error messages, such as `a COCO annotation file`.

    Raises:
      DataError: The file cannot be read or is not JSON. The message names the file and, if known, line and column.
    """
    return parse_json(read_bytes(path, kind), path, kind)


def read_bytes(path: Path, kind: str) -> bytes:
    """Return the bytes of a file.

    Raises:
      DataError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected {kind}, got: {error.strerror}. Fix: check the path.") from error


def decode_text(data: bytes, path: Path) -> str:
    """Return the text of a JSON file.

    Raises:
      DataError: The bytes are not text in one of the encodings of JSON.
    """
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected JSON in UTF-8, got an invalid byte at position {error.start}. "
            "Fix: save the file as UTF-8."
        ) from error


def parse_json(data: bytes, path: Path, kind: str) -> Any:
    """Return the value of JSON text. See `read_json` for `path`, `kind` and errors."""
    if (known := known_file(data)) is not None:
        raise DataError(f"{path}: expected {kind}, got {known.name}. Fix: {known.fix}.")
    text = decode_text(data, path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: expected JSON, got: {error.msg}. "
            "Fix: repair the file, or export it again."
        ) from error
    except RecursionError as error:
        raise DataError(
            f"{path}: expected {kind}, got JSON that is nested too deeply. Fix: export it again."
        ) from error
    except ValueError as error:  # a whole number with thousands of digits
        raise DataError(f"{path}: expected {kind}, got a number that is too long. Fix: export it again.") from error
