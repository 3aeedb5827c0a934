"""Figures as SVG elements for an HTML page, whose style sheet decides the colours and the font."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from ugs_jax.report.plots.colors import GRID, INK, LINES, MUTED, ON_FILL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", ON_FILL: "--on-fill"} | {
    color.lower(): f"--line-{i}" for i, color in enumerate(LINES)
}
"""CSS variables that replace the colours of the plots."""
_COLOR = re.compile("|".join(VARIABLES), re.IGNORECASE)
_FONT = re.compile(r"(?<=px )[^;]*|(?<=font-family: )[^;]*")


def inline_svg(figure: "Figure", title: str, prefix: str) -> str:
    """Return a figure as an `<svg>` element without a background, with colours from CSS variables and text as text.

    Args:
      figure: Figure, drawn with the colours of `plots.colors`.
      title: Title for screen readers.
      prefix: Prefix of all ids. Figures of one page need different prefixes.
    """
    import matplotlib

    buffer = io.StringIO()
    undated = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ugs_jax"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has other fonts
        figure.savefig(buffer, format="svg", metadata=undated, transparent=True)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(buffer.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
            parent.remove(child)
        _restyle(parent, prefix)
    for size in ("width", "height"):
        del root.attrib[size]
    root.set("role", "img")
    root.set("aria-label", title)
    return ET.tostring(root, encoding="unicode")


def _restyle(element: ET.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{prefix}{value}")
        elif name == f"{{{_XLINK}}}href":
            element.set(name, value.replace("#", f"#{prefix}"))
        elif name == "clip-path":
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
        elif name in ("style", "fill", "stroke"):
            colored = _COLOR.sub(lambda match: f"var({VARIABLES[match[0].lower()]})", value)
            element.set(name, _FONT.sub("var(--font)", colored) if "font" in colored else colored)
