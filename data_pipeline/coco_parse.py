"""Reads a COCO annotation file into plain records, checking every entry before any image is opened."""

import functools
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import path_inside

UNKNOWN_IMAGE = "annotations of images that the file does not list (dropped)"
REPEATED_IMAGE = "image entries listed twice (second dropped)"
REPEATED_ANNOTATION = "annotations listed twice (second dropped)"
SHARED_ID = "annotations whose id another one has (both kept)"


@dataclass
class CocoImage:
    """One image: boxes are xyxy px as found, float64 [n, 4]; `regions` are those with `iscrowd`.

    `areas` px² are those the file gives, None where it gives none; `region_labels` and `region_areas` are of the
    regions.
    """

    source_id: int | str
    file_name: str
    height: int | None
    width: int | None
    boxes: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    regions: list[list[float]] = field(default_factory=list)
    areas: list[float | None] = field(default_factory=list)
    region_labels: list[int] = field(default_factory=list)
    region_areas: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class CocoFile:
    """The content of an annotation file.

    Attributes:
      classes: category names, ordered by category id.
      category_ids: their ids, ascending.
      images: in the order of the file.
      summary: entries dropped, by reason.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[CocoImage, ...]
    summary: Counter[str]


def read_coco(path: Path, image_folder: Path) -> CocoFile:
    """Reads an annotation file; once per process as long as it does not change.

    Raises:
      DataError: the file is missing, is no JSON, or has entries that cannot be trusted; names the entry's id.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: expected a COCO annotation file, got {error.strerror}. Fix: check the path."
        ) from error
    return _read(path, image_folder, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: Path, image_folder: Path, mtime_ns: int, size: int) -> CocoFile:
    del mtime_ns, size  # part of the key only
    content = _load_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"{path}: expected a JSON object with the lists 'images', 'annotations' and 'categories', "
                f"got no list {key!r}. Fix: export the annotations in COCO detection format."
            )
    summary: Counter[str] = Counter()
    categories = _categories(path, content["categories"])
    images = _images(path, content["images"], image_folder, summary)
    _annotate(path, content["annotations"], images, sorted(categories), summary)
    ids = tuple(sorted(categories))
    return CocoFile(tuple(categories[key] for key in ids), ids, tuple(images.values()), summary)


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: expected JSON, got: {error.msg}. "
            "Fix: repair the file, or export it again."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected JSON in UTF-8, got a byte that is none at {error.start}. Fix: save the file as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: expected a readable file, got {error.strerror}. Fix: check its permissions."
        ) from error


def _categories(path: Path, entries: list[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for position, entry in enumerate(entries):
        where = f"{path}: categories[{position}]"
        key, name = _fields(where, entry, "id", "name")
        if not _is_whole(key) or not isinstance(name, str):
            raise DataError(f"{where}: expected a whole number 'id' and a text 'name', got {entry!r}. Fix: correct it.")
        if categories.setdefault(key, name) != name:
            raise DataError(
                f"{where}: expected one name for id {key}, got {categories[key]!r} and {name!r}. "
                "Fix: give every category its own id."
            )
    if not categories:
        raise DataError(f"{path}: expected at least one category, got none. Fix: list the classes in 'categories'.")
    return categories


def _images(path: Path, entries: list[Any], image_folder: Path, summary: Counter[str]) -> dict[int | str, CocoImage]:
    images: dict[int | str, CocoImage] = {}
    for position, entry in enumerate(entries):
        where = f"{path}: images[{position}]"
        key, name = _fields(where, entry, "id", "file_name")
        if not (_is_whole(key) or isinstance(key, str)) or not isinstance(name, str):
            raise DataError(
                f"{where}: expected a whole number or a text for 'id' and a text for 'file_name', "
                f"got {key!r} and {name!r}. "
                "Fix: correct the entry."
            )
        try:
            path_inside(image_folder, name)
        except DataError as error:
            raise DataError(f"{where} (id {key!r}): {error}") from error
        image = CocoImage(key, name, height=_side(where, entry, "height"), width=_side(where, entry, "width"))
        if key not in images:
            images[key] = image
        elif images[key] == image:
            summary[REPEATED_IMAGE] += 1
        else:
            raise DataError(
                f"{where}: expected a new image id, got {key!r}, which {images[key].file_name!r} has already. "
                "Fix: give every image its own id."
            )
    if not images:
        raise DataError(f"{path}: expected at least one image, got none. Fix: list the images in 'images'.")
    return images


def _annotate(
    path: Path,
    entries: list[Any],
    images: dict[int | str, CocoImage],
    category_ids: list[int],
    summary: Counter[str],
) -> None:
    labels = {key: label for label, key in enumerate(category_ids)}
    seen: dict[Any, tuple[Any, ...]] = {}
    for position, entry in enumerate(entries):
        where = f"{path}: annotations[{position}]"
        image_id, category, bbox = _fields(where, entry, "image_id", "category_id", "bbox")
        key = entry.get("id")
        where = f"{where} (id {key!r})"
        corners = _corners(where, bbox)
        if not _is_whole(category) or category not in labels:
            raise DataError(
                f"{where}: expected 'category_id' to be one of {_few(category_ids)}, got {category!r}. "
                "Fix: correct the id, or add the category to 'categories'."
            )
        if not isinstance(image_id, int | str) or image_id not in images:
            summary[UNKNOWN_IMAGE] += 1
            continue
        crowd = _crowd(where, entry)
        fact = (image_id, category, crowd, repr(bbox))
        if key is not None and key in seen:
            summary[REPEATED_ANNOTATION if seen[key] == fact else SHARED_ID] += 1
            if seen[key] == fact:
                continue
        seen[key] = fact
        image = images[image_id]
        if crowd:
            image.regions.append(corners)
            image.region_labels.append(labels[category])
            image.region_areas.append(_area(entry))
        else:
            image.boxes.append(corners)
            image.labels.append(labels[category])
            image.areas.append(_area(entry))


def _fields(where: str, entry: Any, *names: str) -> list[Any]:
    missing = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise DataError(f"{where}: expected the keys {', '.join(names)}, got none named {missing[0]!r}. Fix: add it.")
    return [entry[name] for name in names]


def _side(where: str, entry: dict[str, Any], name: str) -> int | None:
    value = entry.get(name)
    if value is not None and (not _is_whole(value) or value <= 0):
        raise DataError(
            f"{where}: expected {name!r} to be a positive whole number of px, got {value!r}. Fix: correct it."
        )
    return None if value is None else int(value)


def _crowd(where: str, entry: dict[str, Any]) -> bool:
    value = entry.get("iscrowd", 0)
    if value not in (0, 1, None):
        raise DataError(f"{where}: expected 'iscrowd' to be 0 or 1, got {value!r}. Fix: correct it.")
    return bool(value)


def _area(entry: dict[str, Any]) -> float | None:
    value = entry.get("area")
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _corners(where: str, bbox: Any) -> list[float]:
    """From [x, y, width, height]; a missing number (null) counts as NaN and is dropped later, in the open."""
    numbers = isinstance(bbox, list) and all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in bbox
    )
    if not numbers or len(bbox) != 4:
        raise DataError(
            f"{where}: expected 'bbox' to be four numbers, x, y, width and height in px, got {bbox!r}. Fix: correct it."
        )
    x, y, width, height = (np.nan if value is None else float(value) for value in bbox)
    return [x, y, x + width, y + height]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _few(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:12]))
    return f"{shown}, …" if len(values) > 12 else shown
