"""Parsing of COCO annotation files into plain records. Every entry is checked before any image is opened."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.faults import Faults
from data_pipeline.known_files import known_json
from data_pipeline.sources.coco_fields import area, corners, fields, marks_of, short, side
from data_pipeline.sources.identifiers import identifier, whole_number
from data_pipeline.sources.json_file import read_json
from data_pipeline.sources.units import check_units

UNKNOWN_IMAGE = "annotations of images that the file does not list (dropped)"
REPEATED_IMAGE = "image entries listed twice (second dropped)"
REPEATED_ANNOTATION = "annotations listed twice (second dropped)"
SHARED_ID = "annotations that share their id with another one (both kept)"
_KIND = "a COCO annotation file"


class CocoObject(NamedTuple):
    """One annotation.

    Attributes:
      box: Left, top, right and bottom, px, without cleaning.
      label: Index of its category.
      area: Area, px², or None if the file does not have it.
      marks: Keys by which the file marks it as not counting, such as `iscrowd`. See `coco_fields.MARKS`.
      place: Its position in the file and its id, such as `annotations[3] (id 7)`.
    """

    box: list[float]
    label: int
    area: float | None
    marks: tuple[str, ...]
    place: str


@dataclass
class CocoImage:
    """One image and its annotations in the order of the file: `boxes` have no marks, `regions` have marks."""

    source_id: int | str
    file_name: str
    height: int | None
    width: int | None
    objects: list[CocoObject] = field(default_factory=list)

    @property
    def boxes(self) -> list[list[float]]:
        """Left, top, right and bottom of each object, px."""
        return [each.box for each in self.objects if not each.marks]

    @property
    def classes(self) -> list[int]:
        """Category index of each object."""
        return [each.label for each in self.objects if not each.marks]

    @property
    def regions(self) -> list[list[float]]:
        """Left, top, right and bottom of each annotation with a mark, px."""
        return [each.box for each in self.objects if each.marks]

    def places(self, *, marked: bool) -> list[str]:
        """Return the place of each annotation with or without a mark."""
        return [each.place for each in self.objects if bool(each.marks) == marked]


@dataclass(frozen=True)
class CocoFile:
    """Content of an annotation file.

    Attributes:
      classes: Category names, ordered by category id. Names that several categories share are followed by their ids.
      category_ids: Category ids, ascending.
      images: Images in the order of the file.
      summary: Entries that were dropped or read in a special way, by reason.
      notes: Whole sentences for the user of the file.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[CocoImage, ...]
    summary: Faults
    notes: tuple[str, ...] = ()


def read_coco(path: Path) -> CocoFile:
    """Read an annotation file. An unchanged file is read only once per process.

    Raises:
      DataError: The file is missing, is not JSON, or has wrong entries. The message names the id of the entry.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise DataError(f"{path}: expected {_KIND}, got {reason}. Fix: check the path.") from error
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int, size: int) -> CocoFile:
    del mtime_ns, size  # only part of the cache key
    content = read_json(path, _KIND)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            known = known_json(content)
            got, fix = (f"no list {key!r}", "export the annotations in COCO detection format")
            if known is not None:
                got, fix = known
            raise DataError(
                f"{path}: expected a JSON object with the lists 'images', 'annotations' and 'categories', "
                f"got {got}. Fix: {fix}."
            )
    summary = Faults()
    categories = _categories(path, content["categories"])
    images = _images(path, content["images"], summary)
    used = _annotate(path, content["annotations"], images, categories, summary)
    notes = [f"{path}: {note}" for note in _drop_parent_category(content["categories"], categories, used, images)]
    unused = [name for key, name in categories.items() if not used[key]]
    if unused and sum(used.values()):
        notes.append(f"{path}: no box of {len(unused)} of {len(categories)} classes: {_few(unused)}")
    return CocoFile(_distinct(categories), tuple(categories), tuple(images.values()), summary, tuple(notes))


def _categories(path: Path, entries: list[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for position, entry in enumerate(entries):
        where = f"{path}: categories[{position}]"
        raw_id, name = fields(where, entry, "id", "name")
        key = whole_number(raw_id)
        if key is None or not isinstance(name, str):
            raise DataError(
                f"{where}: expected a whole number 'id' and a text 'name', got {short(entry)}. Fix: correct it."
            )
        if categories.setdefault(key, name) != name:
            raise DataError(
                f"{where}: expected one name for id {key}, got {categories[key]!r} and {name!r}. "
                "Fix: give every category its own id."
            )
    if not categories:
        raise DataError(f"{path}: expected at least one category, got none. Fix: list the classes in 'categories'.")
    return dict(sorted(categories.items()))


def _images(path: Path, entries: list[Any], summary: Faults) -> dict[int | str, CocoImage]:
    images: dict[int | str, CocoImage] = {}
    for position, entry in enumerate(entries):
        where = f"{path}: images[{position}]"
        raw_id, name = fields(where, entry, "id", "file_name")
        key = identifier(raw_id)
        if key is None or not isinstance(name, str):
            raise DataError(
                f"{where}: expected a whole number or a text for 'id' and a text for 'file_name', "
                f"got {short(raw_id)} and {short(name)}. "
                "Fix: correct the entry."
            )
        image = CocoImage(key, name, height=side(where, entry, "height"), width=side(where, entry, "width"))
        if key not in images:
            images[key] = image
        elif images[key] == image:
            summary.note(REPEATED_IMAGE, [(name, f"images[{position}] (id {short(raw_id)})")])
        else:
            raise DataError(
                f"{where}: expected a new image id, got {raw_id!r}, which {images[key].file_name!r} has already. "
                "Fix: give every image its own id."
            )
    if not images:
        raise DataError(f"{path}: expected at least one image, got none. Fix: list the images in 'images'.")
    return images


def _annotate(
    path: Path,
    entries: list[Any],
    images: dict[int | str, CocoImage],
    categories: dict[int, str],
    summary: Faults,
) -> Counter[int]:
    """Add the annotations to their images. Returns the number of annotations by category."""
    labels = {key: label for label, key in enumerate(categories)}
    used: Counter[int] = Counter()
    seen: dict[Any, tuple[Any, ...]] = {}
    plain: list[tuple[list[float], float | None, CocoImage]] = []
    first_lost = None
    for position, entry in enumerate(entries):
        where = f"{path}: annotations[{position}]"
        outlined = isinstance(entry, dict) and bool(entry.get("segmentation"))
        image_id, category_id = fields(where, entry, "image_id", "category_id", *([] if outlined else ["bbox"]))[:2]
        key = identifier(entry.get("id"))
        place = f"annotations[{position}] (id {short(entry.get('id'))})"
        where = f"{path}: {place}"
        box = corners(where, entry, summary)
        category = whole_number(category_id)
        if category is None or category not in labels:
            raise DataError(
                f"{where}: expected 'category_id' to be one of {_few(list(categories))}, got {short(category_id)}. "
                "Fix: correct the id, or add the category to 'categories'."
            )
        owner = identifier(image_id)
        if owner is None or owner not in images:
            summary.note(UNKNOWN_IMAGE, [("", place)])
            first_lost = first_lost or f"annotations[{position}] with 'image_id' {short(image_id)}"
            continue
        marks = marks_of(where, entry)
        content = (owner, category, marks, repr(entry.get("bbox", box)))
        if key is not None and key in seen:
            reason = REPEATED_ANNOTATION if seen[key] == content else SHARED_ID
            summary.note(reason, [(images[owner].file_name, place)])
            if seen[key] == content:
                continue
        seen[key] = content
        used[category] += 1
        annotation = CocoObject(box, labels[category], area(entry), marks, place)
        images[owner].objects.append(annotation)
        if not marks and isinstance(entry.get("bbox"), list):
            plain.append((box, annotation.area, images[owner]))
    if 2 * summary[UNKNOWN_IMAGE] > len(entries):
        raise DataError(
            f"{path}: expected annotations of the listed images, got {summary[UNKNOWN_IMAGE]} of {len(entries)} that "
            f"belong to no listed image, first {first_lost}; 'images' has ids such as {_few(list(images)[:3])}. "
            "Fix: write the ids of 'images' into 'image_id'."
        )
    _check(path, plain)
    return used


def _check(path: Path, plain: Sequence[tuple[list[float], float | None, CocoImage]]) -> None:
    xyxy = np.array([box for box, _, _ in plain], np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        boxes = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    areas = np.array([np.nan if given is None else given for _, given, _ in plain], np.float64)
    sizes = np.array([[image.width or np.nan, image.height or np.nan] for _, _, image in plain], np.float64)
    check_units(f"{path}: annotations", boxes, areas, sizes.reshape(-1, 2))


def _drop_parent_category(
    entries: list[dict[str, Any]],
    categories: dict[int, str],
    used: Counter[int],
    images: dict[int | str, CocoImage],
) -> list[str]:
    """Drop the category that only groups the others, which Roboflow writes. Returns notes about it for the user."""
    parents = {whole_number(entry["id"]): entry.get("supercategory") for entry in entries}
    for key, name in categories.items():
        others = [parents[other] for other in categories if other != key]
        if not used[key] and others and parents[key] != name and all(other == name for other in others):
            dropped = list(categories).index(key)
            del categories[key]
            for image in images.values():
                image.objects = [
                    each._replace(label=each.label - 1) if each.label > dropped else each for each in image.objects
                ]
            return [f"category {key}, {name!r}, is only the supercategory of the others and has no box; it is left out"]
    return []


def _distinct(categories: dict[int, str]) -> tuple[str, ...]:
    counts = Counter(categories.values())
    return tuple(f"{name} (id {key})" if counts[name] > 1 else name for key, name in categories.items())


def _few(values: Sequence[Any]) -> str:
    shown = ", ".join(map(str, values[:12]))
    return f"{shown}, …" if len(values) > 12 else shown
