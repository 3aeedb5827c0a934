"""The command `ugs score`: scores of predictions of any program, by any protocol."""

import contextlib
import json as json_format
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tyro

from data_pipeline import DataError, Dataset, Example, VisDrone, YoloFolder, dataset_from_examples
from data_pipeline.cleaning import clean_boxes, clean_regions
from data_pipeline.decoding.orientation import ORIENTATION, TURNED
from data_pipeline.ignored_classes import ignored_classes_note, kept_classes
from data_pipeline.sources.coco_parse import CocoFile
from data_pipeline.sources.find_files import is_leftover
from data_pipeline.sources.visdrone import CLASSES, SUFFIXES, annotation_files, read_rows
from data_pipeline.wording import counted_reason
from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation.benchmarks import BENCHMARKS
from ugs_jax.evaluation.coco import CocoScorer, GroundTruth
from ugs_jax.evaluation.coco_files import (
    coco_ground_truth,
    coco_truth_images,
    dataset_annotations,
    read_annotations,
    read_results,
    rows_of_classes,
    without_classes,
)
from ugs_jax.evaluation.results import CocoRow, rows_by_score
from ugs_jax.evaluation.scorers import (
    CROSS_CHECK,
    VisDroneScorer,
    describe_visdrone,
    visdrone_truth,
    with_coco,
)
from ugs_jax.evaluation.submission import read_submission, write_submission
from ugs_jax.evaluation.visdrone import CAPS, TruthImage, visdrone_scores, visdrone_table

if TYPE_CHECKING:
    from ugs_jax.detectors import Postprocess

ProtocolName = Literal["default", "visdrone", "coco", "aitod", "sodad", "tinyperson"]
_UNKNOWN = (1 << 20, 1 << 20)  # px; larger than any box


class Case(NamedTuple):
    """Predictions with their ground truth, in the forms that the protocols take.

    Attributes:
      classes: Names of the classes.
      truth: Annotations for VisDrone's protocol.
      coco_truth: Annotations for the other protocols.
      rows: Detections.
    """

    classes: tuple[str, ...]
    truth: list[TruthImage]
    coco_truth: Dataset | GroundTruth
    rows: list[CocoRow]


def score_command(words: list[str]) -> None:
    """Run `ugs score`: score predictions of any program."""
    tyro.cli(_score, args=words, prog="ugs score")


def _score(
    predictions: tyro.conf.Positional[Path],
    truth: Path,
    protocol: ProtocolName | None = None,
    images: Path | None = None,
    split: str = "val",
    ignore_classes: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Score predictions of any program against their ground truth.

    Args:
      predictions: JSON file of COCO results, or a folder or zip archive in VisDrone's submission format.
      truth: JSON file of COCO annotations, a data.yaml (YOLO), or a folder of VisDrone's annotation files, or its
        parent folder.
      protocol: Scoring protocol. The default is coco for COCO files, and visdrone for files of VisDrone.
      images: Folder of VisDrone's images, for their sizes only. The default is the folder `images` next to the
        annotations. If it is missing too, every box is taken to lie inside its image.
      split: Split of a data.yaml that the predictions are of.
      ignore_classes: Names of classes in the truth whose boxes are regions to ignore, such as `"ignored regions"`. They
        get no score, and detections of them are left out.
      json: Print the scores as JSON.
    """
    if truth.is_dir():
        if ignore_classes:
            raise ValueError(
                "--ignore-classes: expected the truth in a COCO file or a data.yaml, got a folder of VisDrone, whose "
                "categories 0 and 11 are always ignored; leave --ignore-classes out"
            )
        case, name = visdrone_case(predictions, truth, images), protocol or "visdrone"
    else:
        case, name = coco_case(predictions, truth, split, ignore_classes), protocol or "coco"
    scores, description = score_case(case, name)
    if json:
        print(json_format.dumps({"protocol": description, **scores}, indent=1))
    else:
        print_scores(scores, f"{predictions} ({name})", description)


def score_case(case: Case, protocol: ProtocolName) -> tuple[dict[str, float | None], str]:
    """Return the scores by a protocol, and a description of the protocol."""
    scorer = CocoScorer(case.coco_truth, CROSS_CHECK if protocol == "visdrone" else BENCHMARKS[protocol])
    scorer.add([row for row in case.rows if 1 <= row["category_id"] <= len(case.classes)])
    if protocol != "visdrone":
        return scorer.score(), scorer.describe()
    official = visdrone_scores(visdrone_table(case.truth, case.rows, len(case.classes)), case.classes)
    return with_coco(official, scorer.score()), describe_visdrone()


def coco_case(predictions: Path, truth: Path, split: str = "val", ignore_classes: tuple[str, ...] = ()) -> Case:
    """Read COCO results and the annotations of a COCO file or of a YOLO folder.

    Args:
      predictions: JSON file of COCO results.
      truth: JSON file of COCO annotations, or a data.yaml.
      split: Split of a data.yaml.
      ignore_classes: Names of classes in the truth whose boxes are regions to ignore.

    Raises:
      DataError: A file cannot be used, or the truth lacks an ignored class. The message names the file and the entry.
    """
    content = _read_truth(truth, split)
    left_out = (counted_reason(count, reason) for reason, count in sorted(content.summary.items()))
    notes = [*content.notes, *(f"{truth}: {reason}" for reason in left_out)]
    rows = read_results(predictions, content, notes)
    if ignore_classes:
        kept = kept_classes(content.classes, ignore_classes, truth)
        content, rows = without_classes(content, kept), rows_of_classes(rows, kept, predictions, notes)
    elif note := ignored_classes_note(content.classes, "--ignore-classes"):
        notes.append(f"{truth}: {note}")
    rows = rows_by_score(rows)
    found = {row["image_id"] for row in rows}
    with_objects = [number for number, image in enumerate(content.images) if image.boxes]
    if empty := sum(number not in found for number in with_objects):
        notes.append(
            f"{predictions}: no detection in {empty:,} of {len(with_objects):,} images with objects; all their objects "
            "count as missed"
        )
    if not with_objects:
        notes.append(
            f"{truth}: there is nothing to score: no annotation is without a mark (crowd, ignore or uncertain)"
        )
    for note in notes:
        print(note, file=sys.stderr)
    return Case(content.classes, coco_truth_images(content), coco_ground_truth(content), rows)


def _read_truth(truth: Path, split: str) -> CocoFile:
    if truth.suffix.lower() not in (".yaml", ".yml"):
        return read_annotations(truth)
    with contextlib.redirect_stdout(sys.stderr):  # what is printed when the data set is built
        return dataset_annotations(YoloFolder(truth).open(split))


def visdrone_case(predictions: Path, truth: Path, images: Path | None = None) -> Case:
    """Read a VisDrone submission and VisDrone's annotation files.

    Args:
      predictions: Folder or zip archive of the submission.
      truth: Folder of the annotation files, or of the split.
      images: Folder of the images; None for the folder `images` next to the annotations, if it exists.

    Raises:
      DataError: A file cannot be used. The message names the file and the line.
    """
    folder = truth / "annotations" if (truth / "annotations").is_dir() else truth
    files = annotation_files(folder)
    if not files:
        raise DataError(f"{folder}: expected annotation files, NAME.txt, found none. Fix: check --truth.")
    default = folder.parent / "images"
    sizes = _sizes(files, images or (default if default.is_dir() else None))
    annotated = visdrone_truth(files, sizes)
    rows = read_submission(predictions, [file.stem for file in files], len(CLASSES))
    return Case(CLASSES, annotated, _dataset(files, sizes), rows)


def scorer_for(protocol: ProtocolName, data: Dataset, source: Any) -> CocoScorer | VisDroneScorer:
    """Return the scorer of a protocol for the detections of a run.

    Args:
      protocol: Scoring protocol.
      data: Data set with the images.
      source: Source that `data` was opened from. VisDrone's protocol reads the annotation files of a `VisDrone`.
    """
    if protocol != "visdrone":
        return CocoScorer(data, BENCHMARKS[protocol])
    if not isinstance(source, VisDrone):
        return VisDroneScorer(data)
    folder = source.annotation_folder(data.split)
    sizes = [(int(height), int(width)) for height, width in data.table.sizes]
    return VisDroneScorer(data, visdrone_truth([folder / f"{name}.txt" for name in image_names(data)], sizes))


def room_for(protocol: ProtocolName, options: "Postprocess") -> "Postprocess":
    """Return options that keep at least as many detections as a protocol counts.

    The default protocol uses the options of the run, unchanged.
    """
    if protocol == "default":
        return options
    most = CAPS[-1] if protocol == "visdrone" else BENCHMARKS[protocol].max_detections
    kept = max(options.max_detections, most)
    return replace(options, max_detections=kept, pre_nms_topk=max(options.pre_nms_topk, kept))


def write_evaluation(
    folder: Path,
    name: str,
    scorer: CocoScorer | VisDroneScorer,
    scores: dict[str, float | None],
    data: Dataset,
) -> dict[str, Path]:
    """Write `evaluation_<name>.json` and, for VisDrone's protocol, a submission. Return the files by kind."""
    file = folder / f"evaluation_{name}.json"
    write_atomically(file, json_format.dumps({"protocol": scorer.describe(), **scores}, indent=1).encode())
    if not isinstance(scorer, VisDroneScorer):
        return {"scores": file}
    return {"scores": file, "submission": write_results(folder, name, scorer, data)}


def write_results(folder: Path, name: str, scorer: VisDroneScorer, data: Dataset) -> Path:
    """Write `submission_<name>`, with a text file for each image, and return its zip archive."""
    return write_submission(folder / f"submission_{name}", image_names(data), scorer.rows)


def image_names(data: Dataset) -> list[str]:
    """Return a unique name for each image: without suffix, with folders joined by underscores, and numbered if needed.

    For `x.png` and `x.jpg`, the first keeps the name `x`, and the second is named `x-2`.
    """
    plain = [Path(name).with_suffix("").as_posix().replace("/", "_") for name in data.file_names]
    taken, names = set(plain), list[str]()
    first: set[str] = set()
    for name in plain:
        number, unused = 1, name
        while unused in first or (number > 1 and unused in taken):
            number += 1
            unused = f"{name}-{number}"
        first.add(unused)
        names.append(unused)
    return names


def print_scores(scores: dict[str, float | None], title: str, description: str) -> None:
    """Print the mean scores, the scores of each class next to each other (in percent), and a description."""
    from rich.console import Console
    from rich.table import Table

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    means, classes = Table(), Table(title="by class")
    for column in ("score", "%"):
        means.add_column(column, justify="left" if column == "score" else "right")
    keys = list(dict.fromkeys(key.partition("/")[0] for key in scores if "/" in key))
    names = list(dict.fromkeys(key.partition("/")[2] for key in scores if "/" in key))
    for key, value in scores.items():
        if "/" not in key:
            means.add_row(key, cell(value))
    classes.add_column("class")
    for key in keys:
        classes.add_column(key, justify="right")
    for name in names:
        classes.add_row(name, *(cell(scores.get(f"{key}/{name}")) for key in keys))
    console = Console()
    console.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
    console.print(means)
    if names:
        console.print(classes)
    console.print(description, style="dim", highlight=False)


def _sizes(files: list[Path], images: Path | None) -> list[tuple[int, int] | None]:
    """Return the height and width of the image of each annotation file; None if there are no images."""
    from PIL import Image

    if images is None:
        return [None] * len(files)
    if not images.is_dir():
        raise DataError(f"{images}: expected the folder of the images, found none. Fix: check --images.")
    by_stem = {
        path.stem: path for path in images.iterdir() if path.suffix.lower() in SUFFIXES and not is_leftover(path.name)
    }
    sizes: list[tuple[int, int] | None] = []
    for file in files:
        if file.stem not in by_stem:
            raise DataError(f"{images}/{file.stem}.jpg: expected the image of {file}, found none. Fix: check --images.")
        try:
            with Image.open(by_stem[file.stem]) as image:
                turned = image.getexif().get(ORIENTATION) in TURNED
                sizes.append((image.width, image.height) if turned else (image.height, image.width))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{by_stem[file.stem]}: expected an image, got: {error}. Fix: restore it.") from error
    return sizes


def _dataset(files: list[Path], sizes: list[tuple[int, int] | None]) -> Dataset:
    """Return the annotations as a data set of the data pipeline, without images."""
    examples = []
    for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
        rows, (height, width) = read_rows(file), size or _UNKNOWN
        dropped: Counter[str] = Counter()
        boxes, kept = clean_boxes(rows.boxes, height, width, dropped)
        ignore = clean_regions(rows.regions, height, width, dropped)
        examples.append(Example(b"", boxes, rows.classes[kept], ignore, index, file.stem, height, width))
    return dataset_from_examples(examples, CLASSES, name="visdrone")
