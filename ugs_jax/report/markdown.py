"""Text in Markdown."""


def table_cell(text: str) -> str:
    """Return a text as a cell of a table: in one line, with `|` escaped."""
    return text.replace("|", "\\|").replace("\n", " ")
