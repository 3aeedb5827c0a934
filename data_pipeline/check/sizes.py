"""Sizes of objects at the network's input, and what small ones need: a larger input, tiles, or a finer level."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipeline.dataset import Dataset
from data_pipeline.letterbox import letterbox_of

BINS = (
    ("under 2", 0.0, 2.0),
    ("very tiny 2–8", 2.0, 8.0),
    ("tiny 8–16", 8.0, 16.0),
    ("small 16–32", 16.0, 32.0),
    ("medium 32–64", 32.0, 64.0),
    ("large from 64", 64.0, math.inf),
)
"""Name, least √area and limit of every bin, px: those of AI-TOD, and one below and one above."""
TOO_SMALL = 8.0
"""√area of an object below which advice is given, px: one cell of the finest level without P2."""
_BEARABLE = 0.05
_LARGEST_INPUT = 4096
_FACTORS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)


@dataclass(frozen=True)
class Sizes:
    """Objects by size and class, in px of the network's input.

    Attributes:
      bins: Number of objects by the name of the bin.
      by_class: The same for every class.
      quantiles: √area at 1, 5, 25, 50, 75, 95 and 99 % of the objects, px.
      images_by_class: Number of images with objects of each class.
    """

    bins: dict[str, int]
    by_class: dict[str, dict[str, int]]
    quantiles: tuple[float, ...]
    images_by_class: dict[str, int]


def sizes_of(dataset: Dataset, image_size: tuple[int, int]) -> Sizes:
    """Return the sizes of a split's objects.

    Args:
      dataset: Data set.
      image_size: Height and width of the network's input, px. Images are letterboxed.
    """
    table = dataset.table
    sides = input_sides(dataset, image_size)
    owner = np.repeat(np.arange(len(dataset)), np.diff(table.box_start))
    mine = [table.classes == label for label in range(len(dataset.classes))]
    levels = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    return Sizes(
        bins=_binned(sides),
        by_class={name: _binned(sides[mask]) for name, mask in zip(dataset.classes, mine, strict=True)},
        quantiles=tuple(np.quantile(sides, levels).round(2).tolist()) if len(sides) else (),
        images_by_class={name: len(np.unique(owner[mask])) for name, mask in zip(dataset.classes, mine, strict=True)},
    )


def input_sides(dataset: Dataset, image_size: tuple[int, int]) -> Float[np.ndarray, "objects"]:
    """Return √area of every object at the network's input, px.

    Args:
      dataset: Data set.
      image_size: Height and width of the network's input, px.
    """
    scales = [letterbox_of(height, width, image_size).scale for height, width in dataset.table.sizes.tolist()]
    return source_sides(dataset) * np.repeat(np.array(scales, np.float64), np.diff(dataset.table.box_start))


def source_sides(dataset: Dataset) -> Float[np.ndarray, "objects"]:
    """Return √area of every object in px of the stored images."""
    boxes = dataset.table.boxes.astype(np.float64)
    sides: np.ndarray = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return sides


def size_advice(dataset: Dataset, image_size: tuple[int, int], finest_stride: int) -> list[str]:
    """Return sentences about objects that are too small at the network's input, with figures and remedies.

    Args:
      dataset: Training images.
      image_size: Height and width of the network's input, px.
      finest_stride: Pixels per cell of the finest level of the network.
    """
    sides = input_sides(dataset, image_size)
    share = _share(sides)
    if share <= _BEARABLE:
        return []
    lost = _share(source_sides(dataset))
    goal = max(_BEARABLE, lost if 2 * lost <= share else 0.0)  # the stored resolution is enough if it halves the share
    remedies = [remedy for find in (_larger, _tiles) if (remedy := find(dataset, image_size, goal))]
    below = [_percent(float((sides < 2 * stride).mean())) for stride in (4, 8)]
    has = "" if finest_stride > 4 else ", which is on"
    remedies.append(f"P2{has} (smaller than two cells: {below[0]} at its stride 4, {below[1]} at stride 8)")
    advice = f"{_percent(share)} of your objects are under 8 px at {_size(image_size)}"
    rest = "" if lost <= _BEARABLE else f". {_percent(lost)} are under 8 px in the stored images themselves"
    return [f"{advice}: use {_listed(remedies)}{rest}."]


def _larger(dataset: Dataset, image_size: tuple[int, int], goal: float) -> str | None:
    """Return the smallest input, up to twice the size of the stored images, with a share under 8 px up to `goal`."""
    most = min(_LARGEST_INPUT, 2 * int(dataset.table.sizes.max()))
    options = []
    for factor in (factor for factor in _FACTORS if factor * max(image_size) <= most):
        height, width = (-(-round(side * factor) // 32) * 32 for side in image_size)
        options.append(((height, width), factor, _share(input_sides(dataset, (height, width)))))
    if not options:
        return None
    size, factor, share = next((option for option in options if option[2] <= goal), options[-1])
    return f"{_size(size)} ({_percent(share)} under 8 px, {factor**2:.3g} times the work)"


def _tiles(dataset: Dataset, image_size: tuple[int, int], goal: float) -> str | None:
    """Return the largest tile, a multiple of 32 px, with a share under 8 px up to `goal` when it fills the input."""
    side, sizes, sides = min(image_size), dataset.table.sizes, source_sides(dataset)
    tiles = range((int(sizes.max()) - 1) // 32 * 32, side // 2 - 1, -32)
    if not tiles:
        return None
    tile = next((tile for tile in tiles if _share(sides * side / tile) <= goal), tiles[-1])
    count = np.ceil(sizes / tile).prod(axis=1).mean()
    return f"tiles of {tile} px ({_percent(_share(sides * side / tile))} under 8 px, about {count:.2g} tiles an image)"


def _binned(sides: np.ndarray) -> dict[str, int]:
    return {name: int(((sides >= low) & (sides < high)).sum()) for name, low, high in BINS}


def _share(sides: np.ndarray) -> float:
    return float((sides < TOO_SMALL).mean()) if len(sides) else 0.0


def _size(image_size: tuple[int, int]) -> str:
    height, width = image_size
    return f"{height}" if height == width else f"{height} × {width}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, or {parts[-1]}"
