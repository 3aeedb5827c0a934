"""Annotations of an image in its tiles: objects, ignore regions, and how much of each object a tile shows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from data_pipeline.augment.clipping import LEAST_VISIBLE_SIDE
from data_pipeline.augment.geometry import sides
from data_pipeline.dataset import Example
from data_pipeline.tiling.windows import Window


class Cut(NamedTuple):
    """Tiles of one image.

    Attributes:
      tiles: Annotations of every tile, in px of the tile. Their `image` is empty. Identifier and name are the image's.
      visible: Largest share of each object's area that one tile shows. 1 if a tile shows the whole object.
      all_ignored: True for every tile without objects that lies within ignore regions, bool [tiles].
    """

    tiles: list[Example]
    visible: Float64[np.ndarray, " objects"]
    all_ignored: np.ndarray


def cut_annotations(example: Example, windows: Sequence[Window], keep_visible: float) -> Cut:
    """Cut the annotations of an image at the borders of its tiles.

    An object that is visible in part stays an object, with its box clipped to the tile, if the visible share of its
    area is at least `keep_visible`. Otherwise its visible part becomes an ignore region, unless it is thinner than half
    a pixel. Ignore regions are clipped.

    Args:
      example: Annotations of the image.
      windows: Tiles of the image, one or more.
      keep_visible: Least visible share of an object, in [0, 1].
    """
    seen = visible_parts(example.boxes, windows)
    area = _areas(example.boxes.astype(np.float64))
    share = _areas(seen) / np.where(area > 0.0, area, 1.0)
    objects = (share > 0.0) & (share >= keep_visible)
    parts = ~objects & (sides(seen.reshape(-1, 4)).min(axis=1) > LEAST_VISIBLE_SIDE).reshape(share.shape)
    regions = visible_parts(example.ignore, windows)
    in_view = _areas(regions) > 0.0
    tiles, all_ignored = [], []
    for i, window in enumerate(windows):
        ignore = np.concatenate([regions[i, in_view[i]], seen[i, parts[i]]]).astype(np.float32)
        extent = min(window.height, example.height - window.top), min(window.width, example.width - window.left)
        all_ignored.append(not objects[i].any() and covers(ignore, extent))
        tile = example._replace(
            boxes=seen[i, objects[i]].astype(np.float32),
            classes=example.classes[objects[i]],
            ignore=ignore,
            height=window.height,
            width=window.width,
        )
        tiles.append(tile)
    return Cut(tiles, share.max(axis=0), np.array(all_ignored))


def visible_parts(boxes: Float[np.ndarray, "n 4"], windows: Sequence[Window]) -> Float64[np.ndarray, "t n 4"]:
    """Return the part of every box that every window shows.

    Args:
      boxes: Boxes, xyxy px of the image.
      windows: Windows of the image.

    Returns:
      Boxes, xyxy px of each window. A box outside the window has a side of zero.
    """
    corner = np.array([(left, top, left, top) for top, left, _, _ in windows], np.float64)
    limit = np.array([(width, height, width, height) for _, _, height, width in windows], np.float64)
    return np.clip(boxes.astype(np.float64) - corner[:, None], 0.0, limit[:, None])


def covers(regions: Float[np.ndarray, "r 4"], size: tuple[int, int]) -> bool:
    """Return True if the union of regions covers an area.

    Args:
      regions: Regions, xyxy px.
      size: Height and width of the area, which begins at (0, 0), px.
    """
    height, width = size
    inside = np.clip(regions.astype(np.float64), 0.0, [width, height, width, height])
    if _areas(inside).sum() < height * width:
        return False
    within = []  # regions that contain each span between neighbouring edges, along x and along y
    for axis, length in enumerate((width, height)):
        first, last = inside[:, axis], inside[:, axis + 2]
        edges = np.unique([0.0, length, *first, *last])
        middle = (edges[1:] + edges[:-1]) / 2
        within.append(((first[:, None] < middle) & (middle < last[:, None])).astype(np.float64))
    return bool((within[1].T @ within[0] > 0.0).all())


def _areas(boxes: Float64[np.ndarray, "*batch 4"]) -> Float64[np.ndarray, "*batch"]:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
