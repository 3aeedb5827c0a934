"""A view of any data set that is cut into overlapping tiles."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from data_pipeline.dataset import Dataset, DataSource
from data_pipeline.tiling.cut_dataset import CutDataset, cut_dataset
from data_pipeline.tiling.windows import tile_starts
from data_pipeline.wording import counted

EMPTY = "tiles without objects (left out, see empty_share)"
IGNORED = "tiles wholly inside ignore regions (dropped)"
CUT = "objects that no tile shows as a whole"
UNLEARNED = "objects that are ignore regions in every tile"

_LARGEST_OVERLAP = 0.6  # with a larger overlap, every object is in many tiles; a larger tile costs less


@dataclass(frozen=True)
class Tiles:
    """Any data set, cut into overlapping tiles at the resolution of its images.

    The tiles are those of tiled inference (`ugs predict --tile`) with the same tile and overlap. No files are written:
    a tile is cut from its image when it is read. An image that is smaller than a tile is one tile, filled with grey at
    the right and at the bottom. If the tile is the size of the network's input, nothing is resized.

    A box that a border cuts is clipped. It stays an object if the visible share of its area is at least `keep_visible`.
    Otherwise its visible part becomes an ignore region. Training tiles without objects are kept in part. Tiles wholly
    inside ignore regions are dropped. The numbers are printed when the data set is opened.

    Attributes:
      data: Data set to cut: `CocoJson`, `VisDrone`, or yours.
      tile: Height and width of a tile, px of the image. One number gives square tiles.
      overlap: Least share of a tile that neighbours have in common. An object up to that length is whole in some tile.
      keep_visible: Least visible share of an object's area with which it stays an object.
      empty_share: Share of the training tiles without objects that is kept. Validation keeps all.
      whole: Add each training image that is larger than a tile as a whole, for objects larger than a tile.
      val: Validation images: `tiles`, or the `whole` images, which are resized to the network's input.
      seed: Seed that chooses the tiles without objects.
    """

    data: DataSource
    tile: int | tuple[int, int] = 640
    overlap: float = 0.2
    keep_visible: float = 0.5
    empty_share: float = 0.2
    whole: bool = False
    val: Literal["tiles", "whole"] = "tiles"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
          ValueError: A value is out of range, or `data` is already cut.
        """
        if isinstance(self.data, Tiles):
            raise ValueError("Tiles.data: expected a data set of whole images, got Tiles; cut it once")
        for name, side in zip(("height", "width"), self.size, strict=True):
            if side < 1:
                raise ValueError(f"Tiles.tile: expected a {name} of at least 1 px, got {self.tile}")
            try:
                tile_starts(1, side, self.overlap)
            except ValueError as error:
                raise ValueError(f"Tiles.{error}") from None
        for name in ("keep_visible", "empty_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Tiles.{name}: expected a share in [0, 1], got {getattr(self, name)}")
        if self.val not in ("tiles", "whole"):
            raise ValueError(f"Tiles.val: expected 'tiles' or 'whole', got {self.val!r}")
        if self.seed < 0:
            raise ValueError(f"Tiles.seed: expected 0 or more, got {self.seed}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a tile, px."""
        return (self.tile, self.tile) if isinstance(self.tile, int) else self.tile

    @property
    def classes(self) -> Any:
        """Class names of the data set that is cut."""
        source: Any = self.data
        return source.classes

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Open a split of the data set and cut it.

        Args:
          split: Name of the split. Splits other than `train` are cut as `val` says, and keep all their tiles.
          cache_dir: Folder of built data sets; None for the default folder.

        Raises:
          ValueError: The data set does not have the split.
          DataError: The input cannot be used.
        """
        dataset = self.data.open(split, cache_dir)
        training = split == "train"
        return self.cut(dataset, training=training) if training or self.val == "tiles" else dataset

    def cut(self, dataset: Dataset, *, training: bool) -> Dataset:
        """Return the data set of a data set's tiles, in the order of the images, row by row.

        The name of a tile has the position of its first pixel: `a.jpg@x512y0`. The only tile of an image has the name
        of the image. The numbers of tiles, and objects that are too large for them, are printed to standard error.

        Args:
          dataset: Data set of whole images.
          training: Keep only a share of the tiles without objects, and add whole images if `whole` is set. Otherwise,
            all tiles are kept except those inside ignore regions.
        """
        everything = cut_dataset(dataset, self.size, self.overlap, self.keep_visible, whole=self.whole and training)
        ignored = np.array([tile.all_ignored for tile in everything.tiles], bool)
        kept = self._sampled(everything, ignored) if training else ~ignored
        visible = everything.visible
        counts = {
            EMPTY: int((~kept & ~ignored).sum()),
            IGNORED: int((~kept & ignored).sum()),
            CUT: int((visible < 1).sum()),
            UNLEARNED: int(((visible < self.keep_visible) | (visible <= 0)).sum()),
        }
        cut = replace(everything.select(kept), summary=dataset.summary | {name: n for name, n in counts.items() if n})
        for line in self._report(everything, cut):
            print(line, file=sys.stderr, flush=True)
        return cut

    def _sampled(self, everything: CutDataset, ignored: Bool[np.ndarray, " tiles"]) -> Bool[np.ndarray, " tiles"]:
        """Return the mask of the training tiles: all with objects, and a share of those without.

        The first tile of an unreadable image is kept, so that the image is named and counted, or stops a strict run.
        """
        unreadable = everything.dataset.unreadable
        empty = np.array([tile.is_empty for tile in everything.tiles], bool)
        named = [t.example.image_id in unreadable and t.window[:2] == (0, 0) for t in everything.tiles]
        kept = ~empty | np.array(named, bool)
        candidates = np.random.default_rng(self.seed).permutation(np.flatnonzero(~kept & ~ignored))
        kept[candidates[: round(self.empty_share * len(candidates))]] = True
        return kept

    def _report(self, everything: CutDataset, cut: Dataset) -> Iterator[str]:
        whole, objects = everything.dataset, len(everything.visible)
        title, (height, width) = f"{whole.name}/{whole.split}", self.size
        yield (
            f"{title}: {counted(len(cut), 'tile')} of {width} × {height} px from {counted(len(whole), 'image')}, with "
            f"{counted(len(cut.table.boxes), 'box')} of {counted(objects, 'object')}; left out: "
            f"{counted(cut.summary.get(EMPTY, 0), 'tile')} "
            f"without objects, {cut.summary.get(IGNORED, 0):,} inside ignore regions"
        )
        if self.whole or not cut.summary.get(CUT):
            return
        sides = (whole.table.boxes[:, 2:] - whole.table.boxes[:, :2])[everything.visible < 1]
        overlap = math.ceil(100 * float((sides / [width, height]).max())) / 100
        share = self.overlap or 0.2
        tile = math.ceil(float(sides.max()) / share / 32) * 32
        by_overlap = f"overlap {overlap:g} (enough for all of them), " if overlap <= _LARGEST_OVERLAP else ""
        yield (
            f"{title}: {cut.summary[CUT]:,} of {objects:,} objects are whole in no tile, because they are longer than "
            f"the overlap of {math.ceil(round(self.overlap * min(self.size), 6))} px; the longest side is "
            f"{float(sides.max()):.0f} px. {cut.summary.get(UNLEARNED, 0):,} of them are ignore regions in every tile. "
            f"Fix: {by_overlap}tile {tile} at overlap {share:g}, or whole=True, which adds the whole images"
        )
