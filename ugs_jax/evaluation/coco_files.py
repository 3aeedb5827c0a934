"""Annotations and results in COCO's JSON formats, written by any program."""

import dataclasses
import json
import math
import os
import typing
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from data_pipeline import DataError, Dataset
from data_pipeline.faults import Faults
from data_pipeline.known_files import known_json
from data_pipeline.sources.coco_fields import short
from data_pipeline.sources.coco_parse import CocoFile, CocoImage, CocoObject, read_coco
from data_pipeline.sources.identifiers import in_order, whole_number
from data_pipeline.sources.json_file import decode_text, parse_json, read_bytes
from data_pipeline.sources.outlines import outline_box
from data_pipeline.sources.units import check_units
from data_pipeline.wording import counted
from ugs_jax.evaluation.coco import GroundTruth
from ugs_jax.evaluation.image_ids import ImageIds, choose_image_ids
from ugs_jax.evaluation.results import CocoRow
from ugs_jax.evaluation.visdrone import TruthImage

_KIND = "a COCO results file"
_KEYS = ("image_id", "category_id", "bbox", "score")


def read_annotations(path: Path) -> CocoFile:
    """Read a COCO annotation file. Its images are sorted by id, as in pycocotools.

    Raises:
      DataError: The file cannot be read, has inconsistent entries, or has a box that is not finite.
    """
    content = read_coco(path)
    for image in content.images:
        if not np.isfinite(np.array([*image.boxes, *image.regions])).all():
            raise DataError(
                f"{path}: image id {image.source_id!r}: expected finite boxes, got one that is not. "
                "Fix: correct its 'bbox'."
            )
    order = in_order([image.source_id for image in content.images])
    return dataclasses.replace(content, images=tuple(content.images[index] for index in order))


def dataset_annotations(data: Dataset) -> CocoFile:
    """Return the annotations of a data set as those of a COCO annotation file.

    An image is called by its path below the folder that all images have in common. Ignore regions are crowds of every
    class.
    """
    common = os.path.commonpath([str(PurePosixPath(name).parent) for name in data.file_names] or ["."])
    images = []
    for number, file_name in enumerate(data.file_names):
        example, name = data.annotations(number), PurePosixPath(os.path.relpath(file_name, common)).as_posix()
        image = CocoImage(name, name, example.height, example.width)
        for box, label in zip(example.boxes.tolist(), example.classes.tolist(), strict=True):
            image.objects.append(CocoObject(box, label, None, (), file_name))
        for box in example.ignore.tolist():
            for label in range(len(data.classes)):
                image.objects.append(CocoObject(box, label, None, ("iscrowd",), file_name))
        images.append(image)
    order = in_order([image.source_id for image in images])
    return CocoFile(data.classes, data.category_ids, tuple(images[index] for index in order), Faults())


def without_classes(content: CocoFile, kept: Sequence[int]) -> CocoFile:
    """Return annotations in which the objects of all classes but some are crowds of each of those.

    Args:
      content: Annotations.
      kept: Labels of the classes to keep, ascending. The new labels are the positions in it.
    """
    new_label = {label: position for position, label in enumerate(kept)}
    images = []
    for image in content.images:
        objects: list[CocoObject] = []
        for each in image.objects:
            if each.label in new_label:
                objects.append(each._replace(label=new_label[each.label]))
            else:
                crowd = each._replace(marks=each.marks or ("iscrowd",))
                objects += [crowd._replace(label=position) for position in range(len(kept))]
        images.append(dataclasses.replace(image, objects=objects))
    return dataclasses.replace(
        content,
        classes=tuple(content.classes[label] for label in kept),
        category_ids=tuple(content.category_ids[label] for label in kept),
        images=tuple(images),
    )


def rows_of_classes(rows: Sequence[CocoRow], kept: Sequence[int], path: Path, notes: list[str]) -> list[CocoRow]:
    """Return the detections of some classes, which are the only ones. Add the number of the others to the notes.

    Args:
      rows: Detections of `read_results`.
      kept: Labels of the classes to keep, ascending.
      path: File of the detections, for the note.
      notes: List to which the note is added.
    """
    numbers = {label + 1: position + 1 for position, label in enumerate(kept)}
    found: list[CocoRow] = [
        {**row, "category_id": numbers[row["category_id"]]} for row in rows if row["category_id"] in numbers
    ]
    if others := len(rows) - len(found):
        notes.append(f"{path}: {counted(others, 'detection')} of ignored classes left out")
    return found


def coco_ground_truth(content: CocoFile) -> GroundTruth:
    """Return annotations for `CocoScorer`, with their marks and with the areas of the file."""
    annotations: list[dict[str, typing.Any]] = []
    for number, image in enumerate(content.images):
        for each in image.objects:
            left, top, right, bottom = each.box
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": each.label + 1,
                    "bbox": [left, top, width, height],
                    "area": width * height if each.area is None else each.area,
                    "marks": each.marks,
                }
            )
    images = [
        {"id": i, "height": image.height or 0, "width": image.width or 0} for i, image in enumerate(content.images)
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(content.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_truth_images(content: CocoFile) -> list[TruthImage]:
    """Return annotations for VisDrone's protocol. Annotations with a mark become ignored regions."""
    images = []
    for image in content.images:
        corners = np.array([*image.boxes, *image.regions], np.float64).reshape(-1, 4)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        categories = np.array([label + 1 for label in image.classes] + [0] * len(image.regions), np.int64)
        size = (image.height, image.width) if image.height and image.width else None
        images.append(TruthImage(boxes, categories, np.ones(len(boxes), bool), size))
    return images


def read_results(path: Path, content: CocoFile, notes: list[str] | None = None) -> list[CocoRow]:
    """Read a COCO results file.

    The ids 3, 3.0 and "3" are equal. Image ids that are file names or their stems are matched by name. A detection
    without `bbox` gets the box of its `segmentation`.

    Args:
      path: JSON file: a list of objects with `image_id`, `category_id`, `bbox` [x, y, width, height] px and `score`.
      content: Annotations.
      notes: List to which sentences about unusual input are added; None drops them.

    Returns:
      Rows for `CocoScorer.add`: image ids are indices into `content.images`, category ids are class index + 1.

    Raises:
      DataError: The file is not such a list; or an entry lacks a key, has an id that the annotations lack, has a number
        that is not finite, or is repeated. The message names the file, the line and the entry.
    """
    data = read_bytes(path, _KIND)
    entries = parse_json(data, path, _KIND)
    if not isinstance(entries, list):
        known = known_json(entries)
        if known is None and isinstance(entries, dict) and "annotations" in entries:
            raise DataError(
                f"{path}: expected a JSON list of detections, got dict, which has 'annotations'. "
                "Fix: pass the results as the first file and the annotations as --truth."
            )
        got, fix = (type(entries).__name__, "write the list only") if known is None else known
        raise DataError(f"{path}: expected a JSON list of detections, got {got}. Fix: {fix}.")
    images = choose_image_ids(entries, content.images)
    labels = {category: number for number, category in enumerate(content.category_ids, start=1)}
    rows: list[CocoRow] = []
    seen: dict[tuple[typing.Any, ...], int] = {}
    for index, entry in enumerate(entries):
        row = _row(entry, images, labels)
        if not isinstance(row, str):
            first = seen.setdefault((row["image_id"], row["category_id"], *row["bbox"], row["score"]), index)
            if first == index:
                rows.append(row)
                continue
            row = f"expected every detection once, got entry {first} again. Fix: remove it"
        raise DataError(f"{path}:{_line(decode_text(data, path), index)}: entry {index}: {row}.")
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    sizes = [(content.images[row["image_id"]].width, content.images[row["image_id"]].height) for row in rows]
    check_units(f"{path}", boxes, sizes=np.array(sizes, np.float64).reshape(-1, 2))
    if notes is not None and images.note:
        notes.append(f"{path}: {images.note}")
    return rows


def _row(entry: typing.Any, images: ImageIds, labels: dict[int, int]) -> CocoRow | str:
    """Return the detection of an entry, or the text of an error and its fix."""
    box = _box(entry)
    missing = [
        key for key in _KEYS if not isinstance(entry, dict) or (key not in entry and (key != "bbox" or box is None))
    ]
    if missing:
        return f"expected the keys {', '.join(_KEYS)}, got no {missing[0]!r}. Fix: add it"
    if isinstance(box, str):
        return box
    image, category, score = images.find(entry["image_id"]), whole_number(entry["category_id"]), entry["score"]
    if image is None:
        return (
            f"expected an image id of the annotations, got {short(entry['image_id'])}, which is neither one of their "
            f"ids, such as {images.examples}, nor the name of one of their files. "
            "Fix: score on the images of the results"
        )
    if category is None or category not in labels:
        return (
            f"expected a category id of the annotations, one of {list(labels)}, got {short(entry['category_id'])}. "
            "Fix: map the classes"
        )
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return (
            f"expected 'bbox' to be four finite numbers, x, y, width and height in px, got {short(box)}. "
            "Fix: correct it"
        )
    if box[2] < 0 or box[3] < 0:
        return f"expected width and height of at least 0, got {box!r}. Fix: write x, y, width, height, not corners"
    if not _is_finite(score):
        return f"expected 'score' to be a finite number, got {short(score)}. Fix: correct it"
    sides = [float(side) for side in box]
    return {"image_id": image, "category_id": labels[category], "bbox": sides, "score": float(score)}


def _box(entry: typing.Any) -> typing.Any:
    """Return `bbox`, the box of the segmentation, or the text of an error; None if both are missing."""
    if not isinstance(entry, dict):
        return None
    if entry.get("bbox") is not None or not entry.get("segmentation"):
        return entry.get("bbox")
    try:
        corners = outline_box(entry["segmentation"])
    except ValueError as error:
        return f"{error}. Fix: correct it, or add a 'bbox'"
    if corners is None:
        return [0.0] * 4
    left, top, right, bottom = corners
    return [left, top, right - left, bottom - top]


def _is_finite(value: typing.Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 10**300 if isinstance(value, int) else math.isfinite(value)


def _line(text: str, index: int) -> int:
    """Return the line, counted from 1, on which an entry of the JSON list begins."""
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    for entry in range(index + 1):
        while text[at] in " \t\r\n,":
            at += 1
        if entry < index:
            _, at = decoder.raw_decode(text, at)
    return text.count("\n", 0, at) + 1
