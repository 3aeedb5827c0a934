"""All tiles of a data set, and the data set of those that are selected."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from data_pipeline.dataset import Dataset, Example, tabulate
from data_pipeline.tiling.cutting import cut_annotations
from data_pipeline.tiling.tile_images import TileImages
from data_pipeline.tiling.windows import Window, tile_windows


class Tile(NamedTuple):
    """One tile.

    Attributes:
      example: Annotations, px of the tile. Identifier and name are those of the image.
      window: Position on the image.
      suffix: Position as text, such as `@x512y0`. Empty for a whole image, and for the only tile of an image.
      all_ignored: True for a tile without objects that lies within ignore regions.
    """

    example: Example
    window: Window
    suffix: str
    all_ignored: bool

    @property
    def is_empty(self) -> bool:
        """True if the tile has no objects."""
        return not len(self.example.boxes)


@dataclass(frozen=True)
class CutDataset:
    """All tiles of a data set.

    Attributes:
      dataset: Data set of whole images.
      tiles: Tiles in the order of the images, row by row.
      visible: Largest share of each object's area that one tile shows.
    """

    dataset: Dataset
    tiles: list[Tile]
    visible: Float64[np.ndarray, " objects"]

    def select(self, kept: Bool[np.ndarray, " tiles"]) -> Dataset:
        """Return a data set of the tiles in a mask. It has no counts of the tiles that are left out."""
        whole, tiles = self.dataset, [self.tiles[i] for i in np.flatnonzero(kept)]
        images = [tile.example.image_id for tile in tiles]
        windows = np.array([tile.window for tile in tiles], np.int32).reshape(-1, 4)
        ids = [
            f"{whole.source_ids[i]}{tile.suffix}" if tile.suffix else whole.source_ids[i]
            for i, tile in zip(images, tiles, strict=True)
        ]
        return replace(
            whole,
            file_names=tuple(f"{tile.example.file_name}{tile.suffix}" for tile in tiles),
            source_ids=tuple(ids),
            table=tabulate([tile.example for tile in tiles]),
            images=TileImages(whole, np.array(images, np.int32), windows),
            unreadable={k: whole.unreadable[i] for k, i in enumerate(images) if i in whole.unreadable},
        )


def cut_dataset(
    dataset: Dataset, tile: tuple[int, int], overlap: float, keep_visible: float, *, whole: bool = False
) -> CutDataset:
    """Cut the annotations of all images of a data set.

    Args:
      dataset: Data set of whole images.
      tile: Height and width of a tile, px.
      overlap: Least share of a tile that neighbours have in common.
      keep_visible: Least visible share of an object's area with which it stays an object.
      whole: Add each image that has several tiles as a whole, after its tiles.
    """
    tiles, visible = [], [np.zeros(0)]
    for index in range(len(dataset)):
        example = dataset.annotations(index)
        windows = tile_windows(example.height, example.width, tile, overlap)
        cut = cut_annotations(example, windows, keep_visible)
        visible.append(cut.visible)
        several = len(windows) > 1
        for part, window, ignored in zip(cut.tiles, windows, cut.all_ignored.tolist(), strict=True):
            tiles.append(Tile(part, window, f"@x{window.left}y{window.top}" if several else "", ignored))
        if whole and several:
            tiles.append(Tile(example, Window(0, 0, example.height, example.width), "", False))
    return CutDataset(dataset, tiles, np.concatenate(visible))
