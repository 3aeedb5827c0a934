"""Annotations and results in COCO's JSON formats, as any program writes them."""

import json
import math
import typing
from pathlib import Path

import numpy as np

from data_pipeline import DataError
from data_pipeline.coco_parse import CocoFile, read_coco
from ugs_jax.evaluation.coco import GroundTruth
from ugs_jax.evaluation.results import CocoRow
from ugs_jax.evaluation.visdrone import TruthImage

_KEYS = ("image_id", "category_id", "bbox", "score")


def read_annotations(path: Path) -> CocoFile:
    """Reads a COCO annotation file.

    Raises:
      DataError: the file cannot be read or has entries that cannot be trusted, or a box that is not finite.
    """
    content = read_coco(path, path.parent)
    for image in content.images:
        if not np.isfinite(np.array([*image.boxes, *image.regions])).all():
            raise DataError(
                f"{path}: image id {image.source_id!r}: expected finite boxes, got one that is not. "
                "Fix: correct its 'bbox'."
            )
    return content


def coco_ground_truth(content: CocoFile) -> GroundTruth:
    """The annotations as `CocoScorer` takes them: a crowd is one of its own class, areas are those of the file."""
    annotations: list[dict[str, typing.Any]] = []
    for number, image in enumerate(content.images):
        objects = zip(image.boxes, image.labels, image.areas, strict=True)
        crowds = zip(image.regions, image.region_labels, image.region_areas, strict=True)
        for iscrowd, entries in ((0, objects), (1, crowds)):
            for (left, top, right, bottom), label, area in entries:
                width, height = right - left, bottom - top
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": [left, top, width, height],
                        "area": width * height if area is None else area,
                        "iscrowd": iscrowd,
                    }
                )
    images = [
        {"id": i, "height": image.height or 0, "width": image.width or 0} for i, image in enumerate(content.images)
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(content.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_truth_images(content: CocoFile) -> list[TruthImage]:
    """The annotations for VisDrone's protocol: crowds are ignored regions."""
    images = []
    for image in content.images:
        corners = np.array([*image.boxes, *image.regions], np.float64).reshape(-1, 4)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        categories = np.array([label + 1 for label in image.labels] + [0] * len(image.regions), np.int64)
        size = (image.height, image.width) if image.height and image.width else None
        images.append(TruthImage(boxes, categories, np.ones(len(boxes), bool), size))
    return images


def read_results(path: Path, content: CocoFile) -> list[CocoRow]:
    """Reads a COCO results file.

    Args:
      path: a JSON list of objects with `image_id`, `category_id`, `bbox` [x, y, width, height] px and `score`.
      content: the annotations.

    Returns:
      Rows as `CocoScorer.add` takes them: image ids are places in the annotation file, category ids class index + 1.

    Raises:
      DataError: no such list, or an entry that is no such object, has an id that the annotations lack, a number that is
        not finite, or is there twice; by file, line and place.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: expected a COCO results file, got {error.strerror}. Fix: check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected JSON in UTF-8, got other bytes. Fix: save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: expected JSON, got: {error.msg}. Fix: write the file again."
        ) from error
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: expected a JSON list of detections, got {type(entries).__name__}. Fix: write the list only."
        )
    images = {image.source_id: number for number, image in enumerate(content.images)}
    labels = {category: number for number, category in enumerate(content.category_ids, start=1)}
    rows: list[CocoRow] = []
    seen: dict[tuple[typing.Any, ...], int] = {}
    for place, entry in enumerate(entries):
        fault = _fault(entry, images, labels)
        if fault is None:
            image_id, category, box, score = (entry[key] for key in _KEYS)
            first = seen.setdefault((image_id, category, *box, score), place)
            if first == place:
                box = [float(side) for side in box]
                rows.append(
                    {"image_id": images[image_id], "category_id": labels[category], "bbox": box, "score": float(score)}
                )
                continue
            fault = f"expected every detection once, got entry {first} again. Fix: remove it"
        raise DataError(f"{path}:{_line(text, place)}: entry {place}: {fault}.")
    return rows


def _fault(entry: typing.Any, images: dict[int | str, int], labels: dict[int, int]) -> str | None:
    """What is wrong with an entry, and what to do about it."""
    missing = [key for key in _KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        return f"expected the keys {', '.join(_KEYS)}, got none named {missing[0]!r}. Fix: add it"
    image_id, category, box, score = (entry[key] for key in _KEYS)
    if isinstance(image_id, bool) or not isinstance(image_id, int | str) or image_id not in images:
        return f"expected an image id of the annotations, got {image_id!r}. Fix: score on the images of the results"
    if isinstance(category, bool) or not isinstance(category, int) or category not in labels:
        return (
            f"expected a category id of the annotations, one of {list(labels)}, got {category!r}. Fix: map the classes"
        )
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return f"expected 'bbox' to be four finite numbers, x, y, width and height in px, got {box!r}. Fix: correct it"
    if box[2] < 0 or box[3] < 0:
        return f"expected width and height of at least 0, got {box!r}. Fix: write x, y, width, height, not corners"
    if not _is_finite(score):
        return f"expected 'score' to be a finite number, got {score!r}. Fix: correct it"
    return None


def _is_finite(value: typing.Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _line(text: str, place: int) -> int:
    """Line on which entry `place` of the JSON list begins, from 1."""
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    for entry in range(place + 1):
        while text[at] in " \t\r\n,":
            at += 1
        if entry < place:
            _, at = decoder.raw_decode(text, at)
    return text.count("\n", 0, at) + 1
