"""Comparison of identifiers by value: 3, 3.0 and "3" are the same."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.0+)?")


def whole_number(value: Any) -> int | None:
    """Return the whole number that an int, a float or a text stands for. None for any other value.

    A text stands for a number only in its usual notation: "000003" is a name.

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
    """Return the canonical form of an identifier: a whole number if possible, else its text. None for other values."""
    number = whole_number(value)
    if number is not None:
        return number
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else None


def in_order(values: Iterable[int | str]) -> list[int]:
    """Return the indices that sort identifiers in ascending order, numbers before texts."""
    listed = list(values)
    return sorted(range(len(listed)), key=lambda index: (isinstance(listed[index], str), listed[index]))
