"""Limits of the AP of finished runs: errors of boxes, errors of classes, and false detections.

    python -m experiments.benchmarks.ap_limits RUN [RUN …] [--which last] [--json-file FILE]

Detections are matched with objects of their class at an IoU of .3. AP is computed again with the errors of the matched
boxes made smaller, and without the detections that match nothing. The runs must have the same validation images, so
that their boxes are compared on the objects that all of them match.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Bool, Float

from ugs_jax.commands.collect import collect_detections
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.evaluation import AI_TOD_BINS, CocoRow, CocoScorer, SizeBin
from ugs_jax.evaluation.greedy import common_areas, members
from ugs_jax.evaluation.matching import Found, Objects, all_detections, all_objects, match_in_class
from ugs_jax.evaluation.overlaps import corners, intersections, iou
from ugs_jax.runs import load

MIN_IOU = 0.3
FACTORS = (1.0, 0.9, 0.8, 0.5, 0.0)
"""Factors of the errors of matched boxes; 1 leaves the boxes as they are."""

_DEFAULT = InferenceOptions()


class RunDetections(NamedTuple):
    """Detections of a run and their objects.

    Attributes:
      name: Name of the run folder.
      found: Detections.
      objects: Index of the object that each detection matches, −1 for none.
      duplicates: Detections without a match that overlap an object of their class by `MIN_IOU`.
      confused: Detections without a match that overlap only objects of other classes by `MIN_IOU`.
    """

    name: str
    found: Found
    objects: np.ndarray
    duplicates: Bool[np.ndarray, " d"]
    confused: Bool[np.ndarray, " d"]


def detect(
    run: Path, which: str = "last", looks: InferenceOptions = _DEFAULT
) -> tuple[RunDetections, Objects, CocoScorer]:
    """Return the detections of a run in its validation images, the objects in them and a scorer."""
    model = load(run, which=which)
    data = model.experiment.data.open("val")
    scorer = CocoScorer(data)
    images: list[Any] = []
    collect_detections(model, data, scorer, "default", looks, images)
    objects, found = all_objects(data), all_detections(images, len(data.classes))
    return of_detections(run.name, found, objects, len(data.classes)), objects, scorer


def of_detections(name: str, found: Found, objects: Objects, classes: int) -> RunDetections:
    """Return detections with their matches.

    Args:
      name: Name of the run.
      found: Detections.
      objects: Objects of all images.
      classes: Number of classes.
    """
    matched = match_in_class(objects, found, classes, MIN_IOU).objects
    same, other = _overlaps(objects, found)
    return RunDetections(name, found, matched, (matched < 0) & same, (matched < 0) & other & ~same)


def _overlaps(objects: Objects, found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each detection overlaps an object of its own class, and one of another, by `MIN_IOU`."""
    same, other = np.zeros((2, len(found.scores)), bool)
    objects_of = members(objects.images)
    for image, rows in members(found.images).items():
        columns = objects_of.get(image, np.zeros(0, int))
        boxes, truth = found.boxes[rows], objects.boxes[columns]
        area = boxes[:, 2:].prod(axis=1)[:, None]
        meets = iou(common_areas(boxes, truth), area, truth[:, 2:].prod(axis=1)) >= MIN_IOU
        equal = found.classes[rows][:, None] == objects.classes[columns]
        same[rows], other[rows] = (meets & equal).any(axis=1), (meets & ~equal).any(axis=1)
    return same, other


def limits(run: RunDetections, objects: Objects, scorer: CocoScorer) -> dict[str, float]:
    """Return AP in % as it is, with smaller errors of the boxes, and without some of the false detections."""
    matched = run.objects >= 0
    every = np.ones(len(matched), bool)
    rows: dict[str, float] = {}
    for factor in FACTORS:
        boxes = run.found.boxes.copy()
        truth = objects.boxes[run.objects[matched]]
        boxes[matched] = truth + factor * (boxes[matched] - truth)
        rows[f"errors of boxes × {factor:g}"] = ap_percent(run.found._replace(boxes=boxes), every, scorer)
    rows["no detection of a wrong class"] = ap_percent(run.found, ~run.confused, scorer)
    rows["no duplicate"] = ap_percent(run.found, ~run.duplicates, scorer)
    rows["no detection of background"] = ap_percent(run.found, matched | run.confused | run.duplicates, scorer)
    rows["no false detection"] = ap_percent(run.found, matched, scorer)
    rows["objects matched, %"] = 100 * len(np.unique(run.objects[matched])) / len(objects.boxes)
    return rows


def ap_percent(found: Found, kept: Bool[np.ndarray, " d"], scorer: CocoScorer) -> float:
    """Return AP in % of the detections that are kept."""
    scorer.reset()
    scorer.add(
        CocoRow(image_id=int(image), category_id=int(label) + 1, bbox=[float(value) for value in box], score=float(p))
        for box, p, label, image in zip(
            found.boxes[kept], found.scores[kept], found.classes[kept], found.images[kept], strict=True
        )
    )
    return 100 * (scorer.score()["ap"] or 0.0)


def compare_boxes(
    runs: Sequence[RunDetections], objects: Objects, bins: tuple[SizeBin, ...] = AI_TOD_BINS
) -> list[dict[str, Any]]:
    """Return errors of the boxes of every run, on the objects that all runs match.

    Returns:
      Rows with the mean IoU in %, and the root mean square and median of the errors of sides in % of the mean side of
      the object, for all objects and by size.
    """
    common = np.ones(len(objects.boxes), bool)
    for run in runs:
        common &= np.isin(np.arange(len(objects.boxes)), run.objects)
    size = np.sqrt(objects.boxes[:, 2:].prod(axis=1))
    groups = {"all": common, **{b.name: common & (b.low <= size) & (size < b.high) for b in bins}}
    rows = []
    for run in runs:
        box = np.zeros_like(objects.boxes)
        box[run.objects[run.objects >= 0]] = run.found.boxes[run.objects >= 0]
        for name, group in groups.items():
            if group.any():
                rows.append({"run": run.name, "size": name, **_errors(box[group], objects.boxes[group])})
    return rows


def _errors(box: Float[np.ndarray, "n 4"], truth: Float[np.ndarray, "n 4"]) -> dict[str, float]:
    shared, area = intersections(corners(box), corners(truth)), truth[:, 2:].prod(axis=1)
    relative = np.abs(corners(box) - corners(truth)) / np.sqrt(area)[:, None]
    return {
        "objects": float(len(box)),
        "IoU": 100 * float(iou(shared, box[:, 2:].prod(axis=1), area).mean()),
        "rms": 100 * float(np.sqrt(np.square(relative).mean())),
        "median": 100 * float(np.median(relative)),
    }


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    which: str = "last",
    json_file: Path | None = None,
    looks: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Say what limits the AP of finished runs.

    Args:
      runs: Run folders, with the same validation images.
      which: Checkpoint, best or last.
      json_file: File for all numbers.
      looks: Postprocessing other than that of the runs.
    """
    if not runs:
        raise SystemExit("ap_limits: expected run folders, got none")
    detected, tables, first = [], {}, None
    for folder in runs:
        run, objects, scorer = detect(folder, which, looks)
        first = first or objects
        if not all(map(np.array_equal, objects, first)):
            raise SystemExit(f"{folder}: expected the validation images of {runs[0]}; give these runs one at a time")
        detected.append(run)
        tables[run.name] = limits(run, objects, scorer)
        print(run.name, *(f"{name}: {value:.1f}" for name, value in tables[run.name].items()), sep="\n  ", flush=True)
    rows = compare_boxes(detected, objects)
    for row in rows:
        numbers = " ".join(f"{name} {row[name]:5.1f}" for name in ("IoU", "rms", "median"))
        print(f"{row['run']:24} {row['size']:10} {row['objects']:5.0f} {numbers}")
    if json_file is not None:
        json_file.write_text(json.dumps({"limits": tables, "boxes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
