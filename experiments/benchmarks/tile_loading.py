"""Cost of tiles that are cut on the fly, against whole images and against tiles that were written to files before.

    python -m experiments.benchmarks.tile_loading

The command takes about two minutes. Every number counts training images of 640 × 640 px per second of processor time,
in one process without threads. A quarter of the decoded images fits into memory, and no tiles. The on-the-fly tiles are
read in the order of training, in which the tiles of a few images come together (`TileOrder`), and in an order that is
shuffled over all tiles. Tiles in files are JPEGs of the quality of the images.
"""

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import tyro
from rich.console import Console
from rich.table import Table

from data_pipeline import Augmentation, Dataset, LoaderOptions, Tiles, TrainLoader
from data_pipeline.tiling.tile_images import TileImages
from experiments.benchmarks.data_loading import Settings, write_dataset

SHAPES = {"1360 x 765": (765, 1360), "3840 x 2160": (2160, 3840)}
QUALITY = 95


@dataclass(frozen=True)
class Opened:
    """A data set that is already open."""

    dataset: Dataset

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Return the data set."""
        return self.dataset


class Scattered(TileImages):
    """Tiles in an order that is shuffled over all of them."""

    def order(self, seed: int) -> None:
        """Return None."""
        return


def data_sets(whole: Dataset) -> dict[str, Dataset]:
    """Return whole images, tiles on the fly in both orders, and tiles in files, of the same images."""
    tiles = Tiles(Opened(whole), 640, empty_share=1.0).open("train")
    images = tiles.images
    assert isinstance(images, TileImages)
    cache_bytes = int(3 * whole.table.sizes.astype(int).prod(axis=1).sum()) // 4
    grouped, scattered = (
        replace(tiles, images=kind(whole, images.image, images.windows, cache_bytes))
        for kind in (TileImages, Scattered)
    )
    files = []
    for index in range(len(tiles)):
        pixels = cv2.cvtColor(tiles.pixels(index), cv2.COLOR_RGB2BGR)
        files.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    return {
        "whole images": whole,
        "tiles on the fly": grouped,
        "shuffled over all": scattered,
        "tiles in files": replace(tiles, images=files),
    }


def rate(dataset: Dataset, mosaic: bool, seconds: float) -> float:
    """Return training images per second of processor time."""
    options = LoaderOptions(batch_size=4, threads=0, cache_bytes=0, augmentation=Augmentation(mosaic=float(mosaic)))
    loader = TrainLoader(dataset, options)
    loader.batch_at(0)
    step, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        step += 1
        loader.batch_at(step)
    return 4 * step / spent


def main(images: int = 24, seconds: float = 4.0) -> None:
    """Measure and print a table, and one line of JSON at the end.

    Args:
      images: Number of JPEG files of each shape.
      seconds: Processor time of each measurement.
    """
    cv2.setNumThreads(1)
    kinds = ("whole images", "tiles on the fly", "shuffled over all", "tiles in files")
    table, results = Table("images", "mosaic", *kinds, title="per second"), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in SHAPES.items():
            sets = data_sets(write_dataset(Path(folder), shape, Settings(images=images)))
            for mosaic in (True, False):
                rates = {kind: rate(dataset, mosaic, seconds) for kind, dataset in sets.items()}
                table.add_row(name, "yes" if mosaic else "no", *(f"{each:.0f}" for each in rates.values()))
                results[f"{name}{', mosaic' if mosaic else ''}"] = {kind: round(r, 1) for kind, r in rates.items()}
    Console().print(table)
    print(json.dumps({"benchmark": "tile_loading", "images_per_cpu_second": results}))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
