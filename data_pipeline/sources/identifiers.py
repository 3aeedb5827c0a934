"""Identifiers as values: 3, 3.0 and "3" are one."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.0+)?")


def whole_number(value: Any) -> int | None:
    """Return the whole number that a value is, be it an int, a float or a text; None for any other value.

    A text counts if it is how that number is written: "000003" is a name, not a number.

    Example:
      >>> [whole_number(value) for value in (3, 3.0, "3", "3.0", "003", 3.5, True)]
      [3, 3, 3, 3, None, None, None]
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    return None


def identifier(value: Any) -> int | str | None:
    """Return the one form of an identifier: a whole number where it is one, or else its text; None for other values."""
    number = whole_number(value)
    if number is not None:
        return number
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else None


def in_order(values: Iterable[int | str]) -> list[int]:
    """Return the places of identifiers in rising order, numbers before texts."""
    listed = list(values)
    return sorted(range(len(listed)), key=lambda place: (isinstance(listed[place], str), listed[place]))
