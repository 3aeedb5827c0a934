"""Rendering of a scene from background, objects, occluders and camera, with annotations of the visible objects."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.scenes.background import paint_ground
from data_pipeline.scenes.canvas import SUPERSAMPLING, Canvas, Placed
from data_pipeline.scenes.objects import draw_object
from data_pipeline.scenes.placement import Pose, poses
from data_pipeline.scenes.sprite import Brush
from data_pipeline.scenes.statistics import SceneStatistics

VISIBLE_TO_LABEL = 0.3  # an object with a smaller visible fraction is not annotated
VISIBLE_TO_IGNORE = 0.1  # a visible fraction between the two makes an ignore region
_SMALLEST_SIDE = 1.0  # px; the part of an object inside the image must be at least this wide to be annotated
_ATTEMPTS = 10
_Region = tuple[float, float, float, float]


class Scene(NamedTuple):
    """A rendered image with its annotations.

    Attributes:
      image: RGB image, uint8 [H, W, 3].
      boxes: Boxes, float32 [n, 4] xyxy px.
      classes: 0-based class indices, int32 [n].
      ignore: Ignore regions, float32 [r, 4] xyxy px.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    ignore: np.ndarray


def render_scene(rng: np.random.Generator, height: int, width: int, statistics: SceneStatistics) -> Scene:
    """Render a scene of `height` × `width` px with the given `statistics`. Equal generators `rng` give equal scenes."""
    labels = statistics.draw_labels(rng, statistics.draw_count(rng, height, width))
    altitude = statistics.draw_altitude(rng, len(labels))
    sizes = statistics.draw_sizes(rng, labels, altitude, largest=0.45 * min(height, width))
    unit = SUPERSAMPLING * 1.35 * altitude * statistics.median_size["car"]  # a car is longer than its √area
    canvas_size = SUPERSAMPLING * height, SUPERSAMPLING * width
    ground = paint_ground(rng, *canvas_size, unit)
    canvas = Canvas(ground.pixels)
    regions = [
        _far_crowd(canvas, rng, height, width, len(labels) + 2) for _ in range(rng.poisson(statistics.far_crowds))
    ]
    nearness = rng.uniform(0, statistics.perspective)
    streams = {name: poses(rng, ground, name, unit) for name in statistics.classes}
    names = [statistics.classes[label] for label in labels]
    placed = _place_objects(canvas, rng, names, sizes, streams, nearness)
    for _ in range(rng.poisson(3.0)):
        _tree(canvas, rng, unit, owner=len(labels) + 1)
    boxes, kept, hidden = _judge(canvas, placed)
    image = _camera(canvas.image(), rng)
    ignore = np.array(regions + hidden, np.float32).reshape(-1, 4)
    return Scene(image, np.array(boxes, np.float32).reshape(-1, 4), labels[kept].astype(np.int32), ignore)


def _place_objects(
    canvas: Canvas,
    rng: np.random.Generator,
    names: list[str],
    sizes: np.ndarray,
    streams: dict[str, Iterator[Pose]],
    nearness: float,
) -> list[Placed | None]:
    tilt, sun, shadow = rng.uniform(0.6, 1.0), rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.5)
    placed: list[Placed | None] = [None] * len(names)
    for index in np.argsort(-sizes):  # large objects first, because small ones still find room afterwards
        name, size = names[index], SUPERSAMPLING * float(sizes[index])
        spot = _free_spot(canvas, streams[name], size)
        if spot is not None:
            size *= math.exp(nearness * (spot.y / canvas.owner.shape[0] - 0.5))  # lower in the image means nearer
            sprite = draw_object(name, rng, size, spot.heading, tilt)
            reach = 0.16 * size
            canvas.shade(sprite, spot.x + reach * np.cos(sun), spot.y + reach * np.sin(sun), shadow)
            placed[index] = canvas.paste(sprite, spot.x, spot.y, owner=int(index) + 1)
    return placed


def _free_spot(canvas: Canvas, stream: Iterator[Pose], size: float) -> Pose | None:
    for attempt in range(_ATTEMPTS):
        pose = next(stream)
        if canvas.occupied(pose.x, pose.y, 1.15 * size) <= (0.04 if attempt < 6 else 0.2):
            return pose
    return None


def _judge(canvas: Canvas, placed: list[Placed | None]) -> tuple[list[_Region], list[int], list[_Region]]:
    """Return annotated boxes, their indices, and ignore regions, according to the visible fraction of each object."""
    boxes: list[_Region] = []
    kept: list[int] = []
    hidden: list[_Region] = []
    for index, sprite in enumerate(placed):
        if sprite is None:
            continue
        x0, y0, x1, y1 = sprite.box
        fraction = canvas.visible(sprite, owner=index + 1)
        if fraction >= VISIBLE_TO_LABEL and min(x1 - x0, y1 - y0) >= _SMALLEST_SIDE:
            boxes.append(sprite.box)
            kept.append(index)
        elif fraction >= VISIBLE_TO_IGNORE:
            hidden.append(sprite.box)
    return boxes, kept, hidden


def _far_crowd(canvas: Canvas, rng: np.random.Generator, height: int, width: int, owner: int) -> _Region:
    """Paint a crowd that is too small and dense to be labelled, and return its region, xyxy px."""
    w, h = rng.uniform(0.08, 0.22) * width, rng.uniform(0.05, 0.1) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, 0.6 * height)
    density = rng.uniform(0.02, 0.05)
    for _ in range(int(density * w * h)):
        spot = np.round(SUPERSAMPLING * (np.array([x, y]) + rng.uniform(0.03, 0.97, 2) * (w, h))).astype(int)
        colour = (rng.uniform(25, 215) * rng.uniform(0.7, 1.2, 3)).tolist()
        axes = (round(SUPERSAMPLING * rng.uniform(0.5, 1.0)), round(SUPERSAMPLING * rng.uniform(1.0, 2.0)))
        cv2.ellipse(canvas.pixels, spot.tolist(), axes, 0, 0, 360, colour, -1)
    corners = np.round(SUPERSAMPLING * np.array([x, y, x + w, y + h])).astype(int)
    canvas.owner[corners[1] : corners[3], corners[0] : corners[2]] = owner
    x0, y0, x1, y1 = (corners / SUPERSAMPLING).tolist()
    return x0, y0, x1, y1


def _tree(canvas: Canvas, rng: np.random.Generator, unit: float, owner: int) -> None:
    canvas_height, canvas_width = canvas.owner.shape
    x, y, radius = rng.uniform(0, canvas_width), rng.uniform(0, canvas_height), unit * rng.uniform(0.3, 0.8)
    green = np.array([58, 84, 42]) * rng.uniform(0.6, 1.35) + rng.normal(0, 6, 3)
    brush = Brush(np.eye(2))
    for _ in range(10):  # leaves of random brightness
        cx, cy = rng.normal(0, 0.16, 2).clip(-0.33, 0.33)
        leaf = rng.uniform(0.08, 0.16)
        brush.ellipse(cx, cy, leaf, leaf, tuple((green * rng.uniform(0.7, 1.3)).tolist()))
    tree = brush.finish(2.0 * radius)
    canvas.shade(tree, x + 0.3 * radius, y + 0.3 * radius, 0.35)
    canvas.paste(tree, x, y, owner)


def _camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply light, lens and sensor: exposure with a gradient over the image, blur and noise."""
    height, width = image.shape[:2]
    exposure = np.exp(rng.normal(-0.08, 0.22))
    slope = rng.normal(0, 0.12, 2)
    gain = exposure * (1 + slope[0] * np.linspace(-1, 1, height)[:, None] + slope[1] * np.linspace(-1, 1, width)[None])
    tint = 1 + rng.normal(0, 0.03, 3)
    light = cv2.merge([(gain * channel).astype(np.float32) for channel in tint])
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= rng.uniform(1.5, 6.0)
    noise += cv2.multiply(blurred, light, dtype=cv2.CV_32F)
    return cv2.convertScaleAbs(np.maximum(noise, 0, out=noise))
