"""Colours that colour-blind readers can tell apart."""

INK = "#1f2328"
MUTED = "#6e7781"
GRID = "#e4e7eb"
ON_FILL = "#fffffe"
"""Text on a filled area. It differs from white, so that a page can tell the two apart."""

# Okabe & Ito, Color Universal Design (2008): colours dark enough for lines on white; then two of Tol's muted scheme.
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
Dash = str | tuple[int, tuple[float, float]]
DASHES: tuple[Dash, ...] = ("-", (0, (5.0, 2.0)), (0, (1.5, 1.5)))

# Bright enough for thin boxes on photographs; Okabe & Ito first, then Tol's bright and light schemes.
BOXES = (
    (86, 180, 233),
    (240, 228, 66),
    (255, 111, 60),
    (0, 220, 160),
    (238, 136, 200),
    (255, 255, 255),
    (255, 176, 0),
    (120, 140, 255),
    (170, 230, 90),
    (200, 160, 120),
)
IGNORED = (150, 156, 164)
OUTCOMES = {
    "right": (BOXES[0], "found"),
    "confused": (BOXES[1], "found as another class"),
    "false": (BOXES[4], "false detection"),
    "missed": (BOXES[2], "missed object"),
}
"""Colours of the outcomes of a diagnosis, and their names."""


def line_style(index: int) -> tuple[str, Dash]:
    """Return colour and dash of line `index`: eight solid colours, then the same eight dashed, then dotted."""
    return LINES[index % len(LINES)], DASHES[index // len(LINES) % len(DASHES)]


def box_color(label: int) -> tuple[int, int, int]:
    """Return the RGB colour of class `label`. Colours repeat after ten classes."""
    return BOXES[label % len(BOXES)]
