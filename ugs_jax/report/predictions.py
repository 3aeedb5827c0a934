"""Detections on disk: files in the formats of other programs, and a picture for each image."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation.coco_categories import usual_category_ids
from ugs_jax.report.drawn import DrawnFiles, png_bytes
from ugs_jax.report.formats import FORMATS
from ugs_jax.report.formats.image_result import ImageResult, Names, checked, name_of
from ugs_jax.report.pictures import SheetRow, draw_contact_sheet
from ugs_jax.report.prediction import Prediction

SUMMARY = "summary.json"
"""Name of the file with the counts."""


class WrittenPredictions(NamedTuple):
    """Counts and files of `write_predictions`.

    Attributes:
      files: Written file by format.
      images: Number of images, without frames of videos.
      videos: Number of videos.
      frames: Number of frames of all videos.
      boxes: Number of boxes.
      above_threshold: Number of boxes with a score of at least the threshold.
    """

    files: dict[str, Path]
    images: int
    videos: int
    frames: int
    boxes: int
    above_threshold: int


def write_predictions(
    folder: Path,
    predictions: Iterable[Prediction],
    classes: Sequence[str],
    threshold: float = 0.25,
    *,
    formats: Sequence[str] = ("coco",),
    category_ids: Sequence[int] | None = None,
    keep: float = 0.0,
    pictures: bool = True,
    skipped: Sequence[object] = (),
) -> WrittenPredictions:
    """Write detections in one or more formats, and a picture of each image with its best detections.

    Images and frames are written as they come, so that not all must fit in memory.

    | format | files | contents |
    |---|---|---|
    | `coco` | `predictions.json` | list of COCO results, for `ugs score` and pycocotools |
    | | `dataset.json` | the same boxes as a COCO data set, for supervision, FiftyOne and annotation programs |
    | `yolo` | `yolo/labels/…/NAME.txt`, `yolo/data.yaml`, `yolo/obj.names` | rows of `class cx cy w h score` |
    | `csv` | `predictions.csv` | a row for each box |
    | `visdrone` | `visdrone/NAME.txt`, `visdrone.zip` | submission to VisDrone |

    `summary.json` has the counts and the skipped files. A video becomes one video with boxes.

    Args:
      folder: Output folder, created if it is missing. Files of the same name are replaced.
      predictions: Detections of images and frames. The frames of a video come one after the other.
      classes: Class names.
      threshold: Least score of a detection that is drawn in a picture, and counted in `above_threshold`.
      formats: Names of formats, of the table above.
      category_ids: Category id of each class. The default is COCO's ids for COCO's 80 classes, and class index + 1 for
        others.
      keep: Least score of a detection that is written.
      pictures: Write pictures and videos.
      skipped: Errors of files that were skipped. They are read after the last prediction.

    Raises:
      ValueError: A format is unknown, the ids do not fit the classes, a class index has no name, or boxes or scores are
        not finite.
      OSError: A file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"formats: expected {', '.join(FORMATS)}, got {unknown[0]!r}")
    ids = usual_category_ids(classes) if category_ids is None else category_ids
    if len(ids) != len(classes):
        raise ValueError(f"category_ids: expected an id for each of {len(classes)} classes, got {len(ids)}")
    names, videos = Names(), set[str]()
    images = frames = boxes = above = 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(FORMATS[name].open(folder, classes, ids)) for name in dict.fromkeys(formats)]
        drawn = stack.enter_context(DrawnFiles(folder, classes, threshold)) if pictures else None
        for prediction in predictions:
            detections = checked(prediction, classes, keep)
            name = names.unused(name_of(prediction))
            picture = "" if drawn is None else drawn.add(prediction, name)
            height, width = prediction.image.shape[:2]
            image = ImageResult(name, prediction.file_name, picture, height, width, prediction.frame, detections)
            for add in writers:
                add(image)
            boxes += len(detections.scores)
            above += int((detections.scores >= threshold).sum())
            images += prediction.frame is None
            frames += prediction.frame is not None
            videos |= set() if prediction.frame is None else {prediction.file_name}
    files = {name: folder / FORMATS[name].result for name in formats}
    written = WrittenPredictions(files, images, len(videos), frames, boxes, above)
    _write_summary(folder, written, classes, ids, skipped)
    return written


def write_contact_sheet(path: Path, rows: Sequence[SheetRow], classes: Sequence[str], threshold: float = 0.25) -> Path:
    """Write a picture with ground truth beside detections for several images.

    Args:
      path: PNG file, replaced atomically.
      rows: Images with their objects and detections.
      classes: Class names.
      threshold: Least score of a detection that is drawn.

    Returns:
      `path`.

    Raises:
      ValueError: `rows` is empty.
    """
    write_atomically(path, png_bytes(draw_contact_sheet(rows, classes, threshold)))
    return path


def _write_summary(
    folder: Path, written: WrittenPredictions, classes: Sequence[str], ids: Sequence[int], skipped: Sequence[object]
) -> None:
    content = {
        **{name: getattr(written, name) for name in ("images", "videos", "frames", "boxes", "above_threshold")},
        "skipped": len(skipped),
        "reasons": [str(error) for error in skipped],
        "files": {name: str(file.relative_to(folder)) for name, file in written.files.items()},
        "categories": [{"id": number, "name": name} for number, name in zip(ids, classes, strict=True)],
    }
    write_atomically(folder / SUMMARY, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
