"""Placement of objects: cars in rows along roads and in car parks, people in groups beside them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_pipeline.scenes.background import Ground, Road

_WALKERS = ("pedestrian", "people")
_RIDERS = ("bicycle", "motor", "tricycle", "awning-tricycle")


class Pose(NamedTuple):
    """Position in canvas px and direction of travel in radians, clockwise from the x axis."""

    x: float
    y: float
    heading: float


def poses(rng: np.random.Generator, ground: Ground, name: str, unit: float) -> Iterator[Pose]:
    """Yield an endless sequence of poses for objects of a class, in clusters. Some lie outside the image.

    Args:
      rng: Generator of all random choices.
      ground: Background of the scene.
      name: Class name.
      unit: Typical length of a car, canvas px.
    """
    while True:
        if name in _WALKERS:
            yield from _group(rng, ground, unit)
        elif rng.uniform() < (0.35 if name in _RIDERS else 0.15):
            yield Pose(*_anywhere(rng, ground), rng.uniform(0, 2 * np.pi))
        elif rng.uniform() < 0.3:
            yield from _parked(rng, ground, unit)
        else:
            yield from _queue(rng, ground, unit, at_kerb=name in _RIDERS)


def _anywhere(rng: np.random.Generator, ground: Ground) -> tuple[float, float]:
    height, width = ground.pixels.shape[:2]
    return float(rng.uniform(0, width)), float(rng.uniform(0, height))


def _group(rng: np.random.Generator, ground: Ground, unit: float) -> Iterator[Pose]:
    x, y = _anywhere(rng, ground)
    if rng.uniform() < 0.5:
        road = ground.roads[rng.integers(len(ground.roads))]
        x, y, _ = _beside(road, rng.uniform(0.15, 0.85), rng.choice([-1, 1]) * rng.uniform(0.5, 0.8) * road.width)
    spread = unit * rng.uniform(0.4, 1.6)
    for _ in range(rng.geometric(0.22)):
        dx, dy = rng.normal(0, spread, 2)
        yield Pose(x + dx, y + dy, 0.0)


def _queue(rng: np.random.Generator, ground: Ground, unit: float, at_kerb: bool) -> Iterator[Pose]:
    road = ground.roads[rng.integers(len(ground.roads))]
    side = rng.choice([-1.0, 1.0])
    offset = side * road.width * (rng.uniform(0.4, 0.5) if at_kerb else 0.24)
    length = float(np.hypot(*np.diff(road.centre, axis=0).T).sum())
    t = rng.uniform(0.1, 0.9)
    for _ in range(rng.geometric(0.2)):
        x, y, heading = _beside(road, t, offset + rng.normal(0, 0.03) * road.width)
        yield Pose(x, y, heading + (np.pi if side < 0 else 0.0) + rng.normal(0, 0.05))
        t += unit * rng.uniform(1.1, 2.2) / length
        if t > 1:
            return


def _parked(rng: np.random.Generator, ground: Ground, unit: float) -> Iterator[Pose]:
    x, y = _anywhere(rng, ground)
    along = rng.uniform(0, 2 * np.pi)
    step = unit * rng.uniform(0.62, 0.75)
    for slot in range(rng.integers(2, 9)):
        flip = np.pi if rng.uniform() < 0.5 else 0.0
        heading = along + np.pi / 2 + flip + rng.normal(0, 0.04)
        yield Pose(x + slot * step * np.cos(along), y + slot * step * np.sin(along), heading)


def _beside(road: Road, t: float, offset: float) -> Pose:
    position = t * (len(road.centre) - 1)
    index = min(int(position), len(road.centre) - 2)
    step = road.centre[index + 1] - road.centre[index]
    normal = np.array([-step[1], step[0]]) / np.hypot(*step)
    x, y = road.centre[index] + step * (position - index) + normal * offset
    return Pose(float(x), float(y), float(np.arctan2(step[1], step[0])))
