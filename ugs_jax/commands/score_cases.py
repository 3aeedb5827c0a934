"""Predictions of any program and their ground truth, read from the files that `ugs score` is given."""

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from data_pipeline import DataError, Dataset, Example, YoloFolder, dataset_from_examples
from data_pipeline.cleaning import clean_boxes, clean_regions
from data_pipeline.decoding.orientation import ORIENTATION, TURNED
from data_pipeline.ignored_classes import ignored_classes_note, kept_classes
from data_pipeline.sources.coco_parse import CocoFile
from data_pipeline.sources.find_files import is_leftover
from data_pipeline.sources.visdrone import CLASSES, SUFFIXES, annotation_files, read_rows
from data_pipeline.wording import counted_reason
from ugs_jax.evaluation.coco import GroundTruth
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
from ugs_jax.evaluation.scorers import visdrone_truth
from ugs_jax.evaluation.submission import read_submission
from ugs_jax.evaluation.visdrone import TruthImage

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
