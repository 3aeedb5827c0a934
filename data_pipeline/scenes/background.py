"""The ground of a scene: soil, fields, roads, roofs and distractors that resemble objects."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.scenes.canvas import SUPERSAMPLING

_GROUNDS = ((96, 112, 70), (128, 120, 92), (118, 118, 114), (150, 144, 130), (82, 98, 62))
_ROOFS = ((150, 84, 66), (120, 122, 126), (178, 172, 160), (92, 98, 112), (196, 190, 182))
_CONTAINERS = ((150, 70, 60), (70, 90, 130), (90, 120, 90), (170, 150, 90), (160, 160, 158))
_CURVE_POINTS = 25
_SQUARE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


class Road(NamedTuple):
    """A road in canvas px.

    Attributes:
      centre: Points of its centre line, float [n, 2].
      width: Width from kerb to kerb.
    """

    centre: np.ndarray
    width: float


class Ground(NamedTuple):
    """A painted background.

    Attributes:
      pixels: Pixels of the canvas, uint8 [H, W, 3].
      roads: Roads, on which vehicles drive.
    """

    pixels: np.ndarray
    roads: list[Road]


def paint_ground(rng: np.random.Generator, height: int, width: int, unit: float) -> Ground:
    """Paint a background.

    Args:
      rng: Generator of all random choices.
      height: Height of the canvas, px.
      width: Width of the canvas, px.
      unit: Typical length of a car, canvas px. Roads and roofs are in proportion to it.
    """
    pixels = np.empty((height, width, 3), np.uint8)
    cv2.rectangle(pixels, (0, 0), (width, height), _tone(rng, _GROUNDS), -1)
    patches = max(2, min(12, round(height * width / (9 * unit) ** 2)))
    for _ in range(patches):
        _field(pixels, rng, unit)
    for _ in range(patches // 2 + 1):
        _roof(pixels, rng, unit)
    roads = [_road(pixels, rng, unit) for _ in range(1 + int(rng.uniform() < 0.55))]
    for road in roads:
        _markings(pixels, rng, road)
    for _ in range(rng.integers(2, 4 + patches)):
        _distractor(pixels, rng, unit)
    return Ground(texture(pixels, rng), roads)


def texture(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add mottling at several scales to a canvas, uint8 [H, W, 3]."""
    height, width = pixels.shape[0] // SUPERSAMPLING, pixels.shape[1] // SUPERSAMPLING
    noise = np.zeros((height, width), np.float32)
    for cell, strength in ((32, 11.0), (12, 6.5), (4, 5.0), (1, 3.5)):
        grid = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
        noise += (strength * rng.uniform(0.5, 1.3)) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    mottle = cv2.convertScaleAbs(np.maximum(noise + 128.0, 0))
    large = cv2.resize(mottle, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(pixels, 1.0, cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), 1.0, -128.0)


def _quad(
    pixels: np.ndarray, centre: np.ndarray, length: float, breadth: float, angle: float, colour: np.ndarray
) -> None:
    c, s = math.cos(angle), math.sin(angle)
    corners = _SQUARE @ np.array([[c * length, s * length], [-s * breadth, c * breadth]]) + centre
    cv2.fillConvexPoly(pixels, np.rint(corners).astype(np.int32), colour.tolist())  # OpenCV clips colours


def _tone(rng: np.random.Generator, palette: tuple[tuple[int, int, int], ...]) -> list[float]:
    """Return a colour of the palette with a small change in brightness and a smaller one in hue."""
    colour = np.array(palette[rng.integers(len(palette))]) + rng.normal(0, 13) + rng.normal(0, 4, 3)
    shade: list[float] = np.clip(colour, 0, 255).tolist()
    return shade


def _anywhere(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, 1, 2) * (pixels.shape[1], pixels.shape[0])


def _field(pixels: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    centre, angle = _anywhere(pixels, rng), rng.uniform(0, np.pi)
    length, breadth = unit * rng.uniform(3, 9, 2)
    colour = np.array(_tone(rng, _GROUNDS))
    _quad(pixels, centre, length, breadth, angle, colour)
    if rng.uniform() < 0.4:  # crop rows
        across = np.array([-np.sin(angle), np.cos(angle)])
        for offset in np.arange(-breadth / 2, breadth / 2, unit * rng.uniform(0.25, 0.6)):
            _quad(pixels, centre + across * offset, length, unit * 0.08, angle, colour * 0.86)


def _roof(pixels: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    centre, angle = _anywhere(pixels, rng), rng.uniform(0, np.pi)
    length, breadth = unit * rng.uniform(1.5, 5, 2)
    colour = np.array(_tone(rng, _ROOFS))
    _quad(pixels, centre + unit * 0.35, length, breadth, angle, np.array([38, 40, 42]))  # its shadow
    _quad(pixels, centre, length, breadth, angle, colour)
    across = np.array([-np.sin(angle), np.cos(angle)])
    _quad(pixels, centre + across * breadth * 0.25, length, breadth * 0.5, angle, colour * 0.84)
    along = np.array([np.cos(angle), np.sin(angle)])
    for _ in range(rng.integers(0, 5)):  # skylights and air conditioners: as large as a car or a person, but no objects
        spot = centre + along * length * rng.uniform(-0.4, 0.4) + across * breadth * rng.uniform(-0.4, 0.4)
        side = unit * rng.uniform(0.2, 0.5)
        _quad(pixels, spot, side * rng.uniform(1, 2), side, angle, colour * rng.uniform(0.5, 1.4))


def _road(pixels: np.ndarray, rng: np.random.Generator, unit: float) -> Road:
    height, width = pixels.shape[:2]
    middle = np.array([width, height]) * rng.uniform(0.25, 0.75, 2)
    angle = rng.uniform(0, np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)]) * 0.75 * np.hypot(height, width)
    bend = np.array([-direction[1], direction[0]]) * rng.uniform(-0.25, 0.25)
    t = np.linspace(-1, 1, _CURVE_POINTS)[:, None]
    centre = middle + direction * t + bend * (t**2)
    breadth = unit * rng.uniform(1.9, 2.6)
    tone = rng.uniform(70, 118)
    line = [np.round(centre).astype(np.int32)]
    kerb = (tone * 1.45, tone * 1.43, tone * 1.36)
    cv2.polylines(pixels, line, False, kerb, round(breadth * rng.uniform(1.12, 1.5)))
    cv2.polylines(pixels, line, False, (tone, tone, tone * 1.03), round(breadth))
    return Road(centre, breadth)


def _markings(pixels: np.ndarray, rng: np.random.Generator, road: Road) -> None:
    paint = np.array([205, 205, 198]) * rng.uniform(0.75, 1.1)
    steps = np.diff(road.centre, axis=0)
    for start, step in zip(road.centre[:-1], steps, strict=True):
        _quad(
            pixels,
            start + step / 2,
            float(np.hypot(*step)) * 0.45,
            road.width * 0.025,
            float(np.arctan2(*step[::-1])),
            paint,
        )
    if rng.uniform() < 0.5:  # a zebra crossing
        point = int(rng.integers(4, _CURVE_POINTS - 5))
        angle = float(np.arctan2(*steps[point][::-1]))
        across = np.array([-np.sin(angle), np.cos(angle)])
        for offset in np.arange(-0.42, 0.43, 0.14):
            _quad(
                pixels,
                road.centre[point] + across * offset * road.width,
                road.width * 0.3,
                road.width * 0.06,
                angle,
                paint,
            )


def _distractor(pixels: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    """Paint a bollard, a bush, a container or a patch of repaired asphalt."""
    centre, angle, tone = _anywhere(pixels, rng), rng.uniform(0, np.pi), rng.uniform(40, 215)
    kind = rng.integers(4)
    if kind == 0:
        _quad(pixels, centre, unit * 0.1, unit * rng.uniform(0.3, 0.7), rng.normal(0, 0.1), np.array([tone] * 3))
    elif kind == 1:
        radius = max(1, round(unit * rng.uniform(0.12, 0.3)))
        cv2.circle(pixels, np.round(centre).astype(int).tolist(), radius, (tone * 0.35, tone * 0.5, tone * 0.3), -1)
    else:
        colour = np.array(_tone(rng, _CONTAINERS)) if kind == 2 else np.array([tone, tone, tone]) * 0.6
        _quad(pixels, centre, unit * rng.uniform(0.5, 1.4), unit * rng.uniform(0.3, 0.6), angle, colour)
