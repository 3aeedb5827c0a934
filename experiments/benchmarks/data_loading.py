"""Throughput from JPEG files to augmented 640 × 640 training batches, by numbers of threads and worker processes.

    python -m experiments.benchmarks.data_loading

The command takes about four minutes on two cores. The last line is JSON. `images_per_second_per_worker` is measured
with one worker process, mosaic, and 1360 × 765 px JPEGs of quality 95 that are decoded every time.
`workers_for_200_images_per_second` is extrapolated from it, assuming that workers do not slow each other down. Keys
with `_cached` are for decoded images kept in memory, and keys with `_single` are without mosaic.
`images_per_cpu_second` counts the processor time of one process without threads. It is more reliable on a busy machine.
"""

import json
import math
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from data_pipeline.augment.augmentation import Augmentation
from data_pipeline.dataset import Dataset, Example, dataset_from_examples
from data_pipeline.loader import LoaderOptions, TrainLoader

SHAPES = {"1360 x 765": (765, 1360), "640 x 512": (512, 640)}
READERS = ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0))  # worker processes, threads
Case = tuple[str, bool, bool, int, int]  # shape, mosaic, cached, worker processes, threads
TARGET = 200.0  # images a second


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      images: Number of JPEG files of each shape.
      boxes: Number of boxes in each image.
      image_size: Height and width of the batches, px.
      batch_size: Number of images in a batch.
      seconds: Duration of each measurement, after the buffers have emptied once.
    """

    images: int = 32
    boxes: int = 50
    image_size: tuple[int, int] = (640, 640)
    batch_size: int = 8
    seconds: float = 3.0


@dataclass(frozen=True)
class Files:
    """Encoded images that are read from disk, as in a data set."""

    paths: tuple[Path, ...]

    def __getitem__(self, index: int) -> bytes:
        return self.paths[index].read_bytes()


def write_dataset(folder: Path, shape: tuple[int, int], settings: Settings) -> Dataset:
    """Write JPEGs with texture at several scales and noise. They take about as long to decode as aerial photographs."""
    rng = np.random.default_rng(0)
    height, width = shape
    examples, paths = [], []
    for index in range(settings.images):
        octaves = [rng.normal(0.0, 7.0, (height // 2**k, width // 2**k, 3)).astype(np.float32) for k in range(1, 6)]
        image = 120.0 + sum(cv2.resize(octave, (width, height), interpolation=cv2.INTER_CUBIC) for octave in octaves)
        paths.append(folder / f"{height}_{index}.jpg")
        cv2.imwrite(str(paths[-1]), np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])
        corner = rng.uniform(0.0, [width - 40.0, height - 40.0], (settings.boxes, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5.0, 40.0, corner.shape)], axis=1).astype(np.float32)
        labels, ignore = np.zeros(len(boxes), np.int32), np.zeros((0, 4), np.float32)
        examples.append(Example(b"", boxes, labels, ignore, index, paths[-1].name, height, width))
    return replace(dataset_from_examples(examples, ["object"], name="jpeg"), images=Files(tuple(paths)))


class Rate(NamedTuple):
    """Throughput in images per second.

    Attributes:
      wall: Images per second of elapsed time.
      processor: Images per second of the processor time of this process, without its child processes.
    """

    wall: float
    processor: float


def loading_rate(loader: TrainLoader, settings: Settings) -> Rate:
    """Return the steady throughput of a loader. Images that its buffers held at the start do not count."""
    batches = loader.batches()
    warm_up = 1 + max(2 * loader.options.threads, 4 * loader.options.workers, settings.images // settings.batch_size)
    for _ in range(warm_up):
        next(batches)
    count, start, processor = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - start) < settings.seconds:
        count += len(next(batches).valid)
    processor = time.process_time() - processor
    batches.close()
    return Rate(count / elapsed, count / processor)


def measure(settings: Settings, console: Console) -> dict[Case, Rate]:
    """Return throughput by image shape, mosaic, cache, worker processes and threads."""
    rates = {}
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        for name, shape in SHAPES.items():
            dataset = write_dataset(Path(folder), shape, settings)
            for mosaic, cached in ((True, False), (False, False), (True, True), (False, True)):
                for workers, threads in READERS:
                    status.update(f"{name}, mosaic {mosaic}, cached {cached}, {workers} workers, {threads} threads")
                    options = LoaderOptions(
                        image_size=settings.image_size,
                        batch_size=settings.batch_size,
                        workers=workers,
                        threads=threads,
                        augmentation=Augmentation(mosaic=float(mosaic)),
                        cache_bytes=(2 << 30) * cached,
                    )
                    rate = loading_rate(TrainLoader(dataset, options), settings)
                    rates[name, mosaic, cached, workers, threads] = rate
    return rates


def print_table(rates: dict[Case, Rate], settings: Settings, console: Console) -> None:
    """Print a table with a row for each kind of input and a column for each way of reading."""
    size = f"{settings.image_size[1]} x {settings.image_size[0]}"
    table = Table(title=f"images per second to {size} batches, {os.cpu_count()} cores")
    for heading in ("JPEGs", "mosaic", "decoded"):
        table.add_column(heading, no_wrap=True)
    for workers, threads in READERS:
        by = f"{workers} proc." if workers else f"{threads} thr." if threads else "direct"
        table.add_column(by, justify="right")
    for name, mosaic, cached in dict.fromkeys(key[:3] for key in rates):
        cells = [f"{rates[name, mosaic, cached, *reader].wall:.0f}" for reader in READERS]
        table.add_row(name, "yes" if mosaic else "no", "once" if cached else "always", *cells)
    console.print(table)


def main(settings: Settings) -> None:
    """Measure, print the table, and print one line of JSON at the end."""
    console = Console()
    rates = measure(settings, console)
    print_table(rates, settings, console)
    shape = next(iter(SHAPES))
    result: dict[str, float | int | str | list[int]] = {"benchmark": "data_loading", "cores": os.cpu_count() or 0}
    result |= {"image_size": list(settings.image_size), "jpegs": f"{shape}, quality 95"}
    for suffix, mosaic, cached in (
        ("", True, False),
        ("_single", False, False),
        ("_cached", True, True),
        ("_cached_single", False, True),
    ):
        rate = rates[shape, mosaic, cached, 1, 0].wall
        in_process = rates[shape, mosaic, cached, 0, 0].processor
        result[f"images_per_second_per_worker{suffix}"] = round(rate, 1)
        result[f"images_per_cpu_second{suffix}"] = round(in_process, 1)
        result[f"workers_for_200_images_per_second{suffix}"] = math.ceil(TARGET / rate)
    result["workers_are"] = "extrapolated from one worker process; measured rates of up to two are in the table"
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
