"""Time to score a validation set like VisDrone's: 548 synthetic images with 500 detections each.

    python -m experiments.benchmarks.scoring

The command takes about a minute on two cores. The last line is JSON with elapsed seconds and seconds of processor time:

- `reading`: reading the files;
- `visdrone`: VisDrone's protocol on arrays;
- `coco`: COCO's AP by object size with faster-coco-eval;
- `ugs_score`: everything that `ugs score` does: reading, VisDrone's protocol, and COCO's AP.

Processor time is more reliable on a busy machine. All parts use one core only.

Classes and sizes of the objects are as frequent as in VisDrone's training set. Objects lie in clusters, and a fifth of
the images have ignored regions. Two in five detections are slightly shifted objects, with several detections for one
object. The other detections lie anywhere.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from data_pipeline.sources.visdrone import CLASSES
from ugs_jax.commands.score import score_case
from ugs_jax.commands.score_cases import visdrone_case
from ugs_jax.evaluation import CocoRow, CocoScorer, visdrone_scores, visdrone_table, write_submission

# Share of the boxes of VisDrone-train, by class.
SHARES = np.array([0.231, 0.079, 0.030, 0.422, 0.073, 0.038, 0.014, 0.010, 0.017, 0.086])
HEIGHT, WIDTH = 765, 1360
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Settings of the synthetic data.

    Attributes:
      images: Number of images.
      objects: Average number of objects in an image.
      detections: Number of detections in each image.
      seed: Seed of the boxes.
    """

    images: int = 548
    objects: int = 71
    detections: int = 500
    seed: int = 0


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw clustered boxes: left, top, width and height in whole px.

    Half of the sides are below 26 px, as in VisDrone-train.
    """
    clusters = rng.uniform([0, 0], [WIDTH, HEIGHT], (6, 2))
    centers = clusters[rng.integers(0, 6, count)] + rng.normal(0, 90, (count, 2))
    sides = np.clip(np.exp(rng.normal(3.26, 0.8, (count, 1)) + rng.normal(0, 0.3, (count, 2))), 3, 300)
    corner = np.clip(centers - sides / 2, 0, [WIDTH - 300, HEIGHT - 300])
    return np.rint(np.concatenate([corner, sides], axis=1))


def annotations(rng: np.random.Generator, settings: Settings) -> np.ndarray:
    """Draw the rows of one annotation file: left, top, width, height, score, category."""
    count = rng.poisson(settings.objects)
    boxes, categories = _boxes(rng, count), 1 + rng.choice(len(CLASSES), count, p=SHARES)
    rows = np.column_stack([boxes, np.ones(count), categories])
    regions = rng.integers(1, 4) if rng.uniform() < 0.2 else 0
    corners = rng.integers([0, 0], [WIDTH - 300, HEIGHT - 200], (regions, 2))
    ignored = np.column_stack([corners, rng.integers(40, 200, (regions, 2)), np.zeros((regions, 2))])
    return np.concatenate([rows, ignored])


def detections(rng: np.random.Generator, image: int, rows: np.ndarray, settings: Settings) -> list[CocoRow]:
    """Draw the detections of one image, best score first."""
    objects = rows[rows[:, 5] > 0]
    near = objects[rng.integers(0, len(objects), 2 * settings.detections // 5)] if len(objects) else objects
    moved = near[:, :4] + rng.normal(0, 0.12, (len(near), 4)) * np.tile(near[:, 2:4], 2)
    moved[:, 2:] = np.maximum(moved[:, 2:], 1.0)
    others = settings.detections - len(near)
    boxes = np.concatenate([moved, _boxes(rng, others) + rng.uniform(0, 1, (others, 4))])
    categories = np.concatenate([near[:, 5], 1 + rng.choice(len(CLASSES), others, p=SHARES)]).astype(np.int64)
    scores = np.concatenate([rng.beta(2, 2, len(near)), rng.beta(1, 6, others)])
    return [
        {"image_id": image, "category_id": int(categories[i]), "bbox": boxes[i].tolist(), "score": float(scores[i])}
        for i in np.argsort(-scores)
    ]


def write_case(folder: Path, settings: Settings) -> None:
    """Write annotations and results."""
    rng = np.random.default_rng(settings.seed)
    (folder / "annotations").mkdir()
    names, found = [f"{index:07d}" for index in range(settings.images)], list[CocoRow]()
    for image, name in enumerate(names):
        rows = annotations(rng, settings)
        lines = [",".join(str(int(cell)) for cell in row) + ",0,0\n" for row in rows]
        (folder / "annotations" / f"{name}.txt").write_text("".join(lines))
        found += detections(rng, image, rows, settings)
    write_submission(folder / "results", names, found)


class Cost(NamedTuple):
    """Time of one part.

    Attributes:
      wall: Elapsed time, seconds.
      processor: Processor time of this process, seconds.
    """

    wall: float
    processor: float


def _measure(function: Callable[[], T]) -> tuple[Cost, T]:
    start, processor = time.perf_counter(), time.process_time()
    value = function()
    return Cost(time.perf_counter() - start, time.process_time() - processor), value


def main(settings: Settings) -> None:
    """Measure, print the table, and print one line of JSON at the end."""
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_case(folder, settings)
        costs["reading"], case = _measure(lambda: visdrone_case(folder / "results", folder / "annotations"))
        costs["visdrone"], scores = _measure(
            lambda: visdrone_scores(visdrone_table(case.truth, case.rows, len(CLASSES)), CLASSES)
        )
        scorer = CocoScorer(case.coco_truth)
        scorer.add(case.rows)
        costs["coco"], _ = _measure(scorer.score)
        costs["ugs_score"], _ = _measure(
            lambda: score_case(visdrone_case(folder / "results", folder / "annotations"), "visdrone")
        )
    table = Table(title=f"{settings.images} images, {settings.detections} detections each")
    for heading in ("part", "seconds", "processor seconds"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name, cost in costs.items():
        table.add_row(name, f"{cost.wall:.2f}", f"{cost.processor:.2f}")
    Console().print(table)
    result: dict[str, object] = {"benchmark": "scoring", "images": settings.images, "detections": settings.detections}
    result |= {"cores": os.cpu_count(), "ap": scores["ap"], "ar500": scores["ar500"]}
    result |= {f"{name}_seconds": round(cost.wall, 3) for name, cost in costs.items()}
    print(json.dumps(result | {f"{name}_processor_seconds": round(cost.processor, 3) for name, cost in costs.items()}))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
