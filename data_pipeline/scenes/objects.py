"""The ten kinds of object, seen obliquely from above. Each is drawn in a frame whose x axis points forwards."""

from collections.abc import Callable

import numpy as np

from data_pipeline.scenes.sprite import Brush, Colour, Sprite

_PAINTS = (
    (235, 235, 232),
    (200, 203, 205),
    (45, 47, 52),
    (110, 115, 120),
    (170, 30, 30),
    (35, 65, 140),
    (205, 190, 150),
)
_PAINT_SHARE = (0.3, 0.2, 0.18, 0.14, 0.08, 0.07, 0.03)
_CLOTHES = ((30, 30, 38), (60, 60, 75), (225, 225, 220), (180, 40, 45), (40, 70, 150), (200, 160, 60), (90, 130, 90))
_AWNINGS = ((40, 90, 190), (200, 50, 50), (70, 150, 80), (220, 170, 60))
_SKIN, _HAIR, _GLASS, _TYRE = (205, 165, 135), (40, 32, 28), (28, 36, 46), (25, 25, 27)


def draw_object(name: str, rng: np.random.Generator, size: float, heading: float, tilt: float) -> Sprite:
    """Draw an object of a class with random proportions, colour and details.

    Args:
      name: Class name.
      rng: Generator of the random appearance.
      size: Square root of the box area, px.
      heading: Direction of travel, radians, clockwise from the x axis. People stand upright for any heading.
      tilt: Vertical foreshortening of objects on the ground, 1 for a view straight down.
    """
    shortest, longest, upright, draw = _KINDS[name]
    length = rng.uniform(shortest, longest)  # relative to the width
    matrix = np.diag([1.0, length]) if upright else _ground_map(heading, tilt) @ np.diag([length, 1.0])
    brush = Brush(matrix)
    draw(brush, rng)
    return brush.finish(size)


def _ground_map(heading: float, tilt: float) -> np.ndarray:
    c, s = np.cos(heading), np.sin(heading)
    return np.array([[c, -s], [tilt * s, tilt * c]])


def _paint(rng: np.random.Generator) -> Colour:
    return _vary(rng, _PAINTS[rng.choice(len(_PAINTS), p=_PAINT_SHARE)], 18)


def _cloth(rng: np.random.Generator) -> Colour:
    return _vary(rng, _CLOTHES[rng.integers(len(_CLOTHES))], 22)


def _vary(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    red, green, blue = np.clip(np.add(colour, rng.normal(0, amount, 3) * 0.5 + rng.normal(0, amount)), 5, 250)
    return float(red), float(green), float(blue)


def _dim(colour: Colour, gain: float) -> Colour:
    return colour[0] * gain, colour[1] * gain, colour[2] * gain


def _car(brush: Brush, rng: np.random.Generator) -> None:
    paint = _paint(rng)
    brush.box(-0.5, -0.5, 0.5, 0.5, _dim(paint, 0.72), corner=0.16)
    brush.box(-0.48, -0.43, 0.48, 0.43, paint, corner=0.16)
    brush.box(-0.34, -0.4, 0.26, 0.4, _GLASS, corner=0.12)
    brush.box(-0.24, -0.36, 0.1, 0.36, _dim(paint, 0.96), corner=0.1)


def _van(brush: Brush, rng: np.random.Generator) -> None:
    paint = _paint(rng)
    brush.box(-0.5, -0.5, 0.5, 0.5, _dim(paint, 0.75), corner=0.07)
    brush.box(-0.48, -0.42, 0.3, 0.42, paint, corner=0.05)
    brush.box(0.24, -0.42, 0.38, 0.42, _GLASS, corner=0.1)


def _truck(brush: Brush, rng: np.random.Generator) -> None:
    cab, cargo = _paint(rng), _vary(rng, (150, 140, 125), 35)
    brush.box(-0.5, -0.5, 0.2, 0.5, _dim(cargo, 0.6))
    brush.box(-0.48, -0.42, 0.18, 0.42, cargo)
    for x in np.arange(-0.4, 0.15, rng.uniform(0.11, 0.2)):
        brush.box(float(x), -0.42, float(x) + 0.03, 0.42, _dim(cargo, 0.75))
    brush.box(0.2, -0.36, 0.26, 0.36, _TYRE)
    brush.box(0.25, -0.46, 0.5, 0.46, cab, corner=0.12)
    brush.box(0.37, -0.4, 0.44, 0.4, _GLASS)


def _bus(brush: Brush, rng: np.random.Generator) -> None:
    paint = _vary(rng, ((225, 225, 220), (215, 190, 70), (70, 110, 170), (190, 60, 50))[rng.integers(4)], 15)
    brush.box(-0.5, -0.5, 0.5, 0.5, _dim(paint, 0.65), corner=0.03)
    brush.box(-0.49, -0.4, 0.46, 0.4, paint, corner=0.03)
    brush.box(0.43, -0.42, 0.48, 0.42, _GLASS)
    for x in (-0.3, 0.0, 0.25):
        brush.box(x - 0.05, -0.2, x + 0.05, 0.2, _dim(paint, 0.85))


def _pedestrian(brush: Brush, rng: np.random.Generator) -> None:
    legs, coat, lean = _cloth(rng), _cloth(rng), rng.uniform(0.0, 0.14)
    brush.polygon([(-0.3, 0.05), (0.0, 0.05), (-0.2 + lean, 0.5), (-0.42 + lean, 0.5)], _dim(legs, 0.8))
    brush.polygon([(0.0, 0.05), (0.3, 0.05), (0.42 - lean, 0.5), (0.2 - lean, 0.5)], _dim(legs, 0.65))
    brush.box(-0.5, -0.28, 0.5, 0.14, coat, corner=0.2)
    brush.ellipse(0.0, -0.36, 0.28, 0.14, _HAIR)
    brush.ellipse(0.02, -0.32, 0.2, 0.09, _SKIN)


def _people(brush: Brush, rng: np.random.Generator) -> None:
    legs, coat = _cloth(rng), _cloth(rng)
    brush.box(-0.2, 0.1, 0.5, 0.5, _dim(legs, 0.75), corner=0.25)
    brush.box(-0.5, -0.25, 0.3, 0.4, coat, corner=0.22)
    brush.ellipse(-0.1, -0.34, 0.24, 0.16, _HAIR)
    brush.ellipse(-0.05, -0.3, 0.17, 0.1, _SKIN)


def _rider(brush: Brush, rng: np.random.Generator, width: float) -> None:
    brush.ellipse(-0.08, 0.0, 0.2, width, _cloth(rng))
    brush.ellipse(0.0, 0.0, 0.09, width * 0.55, _HAIR if rng.uniform() < 0.5 else _cloth(rng))


def _bicycle(brush: Brush, rng: np.random.Generator) -> None:
    brush.box(-0.5, -0.14, -0.06, 0.14, _TYRE, corner=0.2)
    brush.box(0.06, -0.14, 0.5, 0.14, _TYRE, corner=0.2)
    brush.box(-0.3, -0.09, 0.3, 0.09, _paint(rng))
    brush.box(0.2, -0.5, 0.28, 0.5, (60, 60, 62))
    if rng.uniform() < 0.6:
        _rider(brush, rng, 0.4)


def _motor(brush: Brush, rng: np.random.Generator) -> None:
    brush.box(-0.5, -0.2, 0.5, 0.2, _TYRE, corner=0.3)
    brush.box(-0.36, -0.32, 0.36, 0.32, _paint(rng), corner=0.25)
    brush.box(0.2, -0.5, 0.3, 0.5, (50, 50, 52))
    if rng.uniform() < 0.8:
        _rider(brush, rng, 0.42)


def _tricycle(brush: Brush, rng: np.random.Generator) -> None:
    tray = _vary(rng, (90, 110, 135), 25)
    brush.box(-0.5, -0.5, 0.1, 0.5, _dim(tray, 0.6))
    brush.box(-0.45, -0.42, 0.05, 0.42, _vary(rng, (135, 115, 90), 30))
    brush.box(0.05, -0.12, 0.5, 0.12, _TYRE, corner=0.2)
    brush.box(0.26, -0.34, 0.33, 0.34, (60, 60, 62))
    brush.ellipse(0.14, 0.0, 0.14, 0.24, _cloth(rng))


def _awning_tricycle(brush: Brush, rng: np.random.Generator) -> None:
    awning = _vary(rng, _AWNINGS[rng.integers(len(_AWNINGS))], 18)
    brush.box(0.2, -0.14, 0.5, 0.14, _TYRE, corner=0.2)
    brush.box(-0.5, -0.5, 0.36, 0.5, _dim(awning, 0.6), corner=0.05)
    brush.box(-0.47, -0.43, 0.33, 0.43, awning, corner=0.08)
    brush.box(-0.47, -0.04, 0.33, 0.04, _dim(awning, 1.0 if rng.uniform() < 0.4 else 0.8))


# For each class: smallest and largest ratio of length to width, True if it stands upright, and its drawing function.
_KINDS: dict[str, tuple[float, float, bool, Callable[[Brush, np.random.Generator], None]]] = {
    "pedestrian": (1.9, 3.1, True, _pedestrian),
    "people": (1.1, 2.0, True, _people),
    "bicycle": (1.9, 2.7, False, _bicycle),
    "car": (1.75, 2.3, False, _car),
    "van": (1.8, 2.4, False, _van),
    "truck": (2.2, 3.0, False, _truck),
    "tricycle": (1.5, 2.1, False, _tricycle),
    "awning-tricycle": (1.3, 1.9, False, _awning_tricycle),
    "bus": (2.8, 3.8, False, _bus),
    "motor": (1.7, 2.4, False, _motor),
}
