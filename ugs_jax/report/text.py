"""Names from outside, such as class and file names, made safe to show."""


def printable(text: str) -> str:
    """Return a text in one line, with control characters and marks of text direction replaced by `�`."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text)


def shortened(text: str, length: int) -> str:
    """Return a printable text of at most `length` characters; a longer one ends in `…`.

    Args:
      text: Text.
      length: Largest number of characters.
    """
    text = printable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
