"""VisDrone-DET in its official folders, with a text file of eight columns for each image."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.cache import SourceId, SplitRecipe, Unreadable, file_stamps, fingerprint, open_split
from data_pipeline.cleaning import clean_boxes, clean_regions, note_unreadable
from data_pipeline.dataset import Dataset, Example
from data_pipeline.decoding.images import read_image_file
from data_pipeline.decoding.whole_images import decode_whole_image
from data_pipeline.errors import DataError
from data_pipeline.sources.find_files import is_leftover

CLASSES = ("pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor")
COLUMNS = ("left", "top", "width", "height", "score", "category", "truncation", "occlusion")

_VERSION = 2
FOLDERS = {
    "train": "VisDrone2019-DET-train",
    "val": "VisDrone2019-DET-val",
    "test": "VisDrone2019-DET-test-dev",
    "challenge": "VisDrone2019-DET-test-challenge",
}
UNANNOTATED = "challenge"
SUFFIXES = (".jpg", ".jpeg", ".png")
_LAST_CATEGORY = 11  # others


class Rows(NamedTuple):
    """Content of one annotation file.

    Attributes:
      boxes: Boxes without cleaning, float64 [n, 4] xyxy px.
      classes: Class indices from 0 to 9, int32 [n].
      regions: Ignored regions, `others` and boxes with score 0, float64 [r, 4] xyxy px.
      box_lines: Line of every box, from 1.
      region_lines: Line of every region, from 1.
    """

    boxes: np.ndarray
    classes: np.ndarray
    regions: np.ndarray
    box_lines: tuple[int, ...]
    region_lines: tuple[int, ...]


@dataclass(frozen=True)
class VisDrone:
    """The VisDrone2019-DET data set in the layout of its download.

    Ignored regions (category 0), `others` (category 11) and rows with score 0 become ignore regions: neither objects
    nor background. Rows without area are dropped and counted. Malformed rows raise a DataError with file and line.

    Attributes:
      root: Folder that contains `VisDrone2019-DET-train` and the folders of the other splits, each with `images` and,
        except for `VisDrone2019-DET-test-challenge`, `annotations`.
    """

    root: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the ten classes. A label is an index into them: the official category minus one."""
        return CLASSES

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Open a split. It is converted once and then read from the cache.

        Args:
          split: Name of the split: `train`, `val`, `test` for test-dev, or `challenge` for test-challenge, whose images
            have no annotations.
          cache_dir: Folder of built data sets. None means the environment variable UGS_CACHE, or else
            `~/.cache/ugs_jax/datasets`.

        Raises:
          ValueError: The split is unknown.
          DataError: The input cannot be used. The message names the file and the line.
        """
        folder = self._folder(split)
        annotated = split != UNANNOTATED
        images = _pair(folder) if annotated else _images(folder)

        def examples(summary: Counter[str]) -> Iterator[tuple[SourceId, Example | Unreadable]]:
            read = lambda path: read_rows(_annotation_of(folder, path)) if annotated else _NO_ROWS  # noqa: E731
            parsed = {path: read(path) for path in images}  # all annotations are read before any image
            for index, path in enumerate(images):
                yield path.stem, _example(index, path, parsed[path], summary)

        names = [f"images/{path.name}" for path in images]
        names += [f"annotations/{path.stem}.txt" for path in images] if annotated else []
        recipe = SplitRecipe(
            name="visdrone",
            split=split,
            classes=CLASSES,
            category_ids=tuple(range(1, len(CLASSES) + 1)),
            fingerprint=fingerprint("visdrone", _VERSION, split, file_stamps(folder, names)),
            examples=examples,
        )
        return open_split(recipe, cache_dir)

    def count_images(self, split: str) -> int | None:
        """Return the number of images of a split, counted by file name. None if its folder is missing.

        Raises:
          ValueError: The split is unknown.
        """
        images = self._folder(split) / "images"
        return len(_listed(images)) if images.is_dir() else None

    def annotation_folder(self, split: str) -> Path:
        """Return the folder of a split's annotation files. The official protocol scores against the unchanged files.

        Raises:
          ValueError: The split is unknown.
        """
        return self._folder(split) / "annotations"

    def _folder(self, split: str) -> Path:
        if split not in FOLDERS:
            raise ValueError(f"split: expected one of {tuple(FOLDERS)}, got {split!r}.")
        return Path(self.root) / FOLDERS[split]


def read_columns(path: Path) -> np.ndarray:
    """Read the first six columns of an annotation file without changes: float64 [n, 6].

    Raises:
      DataError: A row does not have eight numbers or has an unknown category. The message names file and line.
    """
    return np.array(list(_numbered(path).values()), np.float64).reshape(-1, 6)


def _numbered(path: Path) -> dict[int, list[float]]:
    """Return the first six columns of every row, by the number of its line from 1."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: expected an annotation file, got: {error.strerror}. Fix: copy it again from its source."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a text file, got bytes that are not UTF-8. Fix: copy it again from its source."
        ) from error
    return {number: _row(f"{path}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip()}


def read_rows(path: Path) -> Rows:
    """Read one annotation file.

    Raises:
      DataError: A row does not have eight numbers or has an unknown category. The message names file and line.
    """
    boxes: list[list[float]] = []
    labels: list[int] = []
    regions: list[list[float]] = []
    box_lines: list[int] = []
    region_lines: list[int] = []
    for line, (left, top, width, height, score, category) in _numbered(path).items():
        corners = [left, top, left + width, top + height]
        if category in (0, _LAST_CATEGORY) or score == 0:
            regions.append(corners)
            region_lines.append(line)
        else:
            boxes.append(corners)
            box_lines.append(line)
            labels.append(int(category) - 1)
    return Rows(_table(boxes), np.array(labels, np.int32), _table(regions), tuple(box_lines), tuple(region_lines))


def _row(where: str, line: str) -> list[float]:
    """Return the first six columns of a row. Some official rows end with a comma."""
    cells = line.strip().removesuffix(",").split(",")
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"{where}: expected {len(COLUMNS)} columns, {', '.join(COLUMNS)}; got {len(cells)} in {line.strip()!r}. "
            "Fix: correct the row."
        )
    values = []
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            values.append(float(cell))
        except ValueError as error:
            raise DataError(f"{where}: expected a number for {name}, got {cell!r}. Fix: correct the row.") from error
    category, score = values[5], values[4]
    if category not in range(_LAST_CATEGORY + 1):
        raise DataError(
            f"{where}: expected a category from 0 (ignored region) to {_LAST_CATEGORY} (others), got {cells[5]}. "
            "Fix: correct the row; for other classes, use the COCO format."
        )
    if not math.isfinite(score):
        raise DataError(f"{where}: expected the score 0 or 1, got {cells[4]}. Fix: correct the row.")
    return values[:6]


def _pair(folder: Path) -> list[Path]:
    """Return the images of a split, sorted by name, after a check that images and annotation files correspond."""
    _require(folder, "images", "annotations")
    images = _listed(folder / "images")
    named = {path.stem for path in images}
    annotated = {path.stem for path in annotation_files(folder / "annotations")}
    if len(named) < len(images):
        counts = Counter(path.stem for path in images)
        repeated = next(path for path in images if counts[path.stem] > 1)
        raise DataError(
            f"{repeated}: expected one image for {repeated.stem}.txt, got two with different suffixes. Fix: remove one."
        )
    for stem in sorted(named ^ annotated)[:1]:
        present, absent = ("image", "annotation file") if stem in named else ("annotation file", "image")
        raise DataError(
            f"{folder}: expected an image and an annotation file for {stem!r}, got an {present} and no {absent} "
            f"({len(named ^ annotated)} such). Fix: unpack the official archive again, or remove the files without a "
            "partner."
        )
    return _not_empty(folder, images)


def _images(folder: Path) -> list[Path]:
    """Return the images of a split without annotations, sorted by name."""
    _require(folder, "images")
    return _not_empty(folder, _listed(folder / "images"))


def _require(folder: Path, *parts: str) -> None:
    for part in parts:
        if not (folder / part).is_dir():
            required = " and ".join(repr(each) for each in parts)
            raise DataError(
                f"{folder / part}: expected a folder, found none. Fix: unpack the official archive so that "
                f"{folder.name} contains {required}."
            )


def _listed(images: Path) -> list[Path]:
    return sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES and not is_leftover(path.name))


def annotation_files(folder: Path) -> list[Path]:
    """Return the annotation files of a folder, sorted by name, without hidden files of the operating system."""
    return sorted(path for path in folder.glob("*.txt") if not is_leftover(path.name))


def _not_empty(folder: Path, images: list[Path]) -> list[Path]:
    if not images:
        raise DataError(f"{folder / 'images'}: expected images, found none. Fix: unpack the official archive again.")
    return images


def _annotation_of(folder: Path, image: Path) -> Path:
    return folder / "annotations" / f"{image.stem}.txt"


def _table(corners: list[list[float]]) -> np.ndarray:
    return np.array(corners, np.float64).reshape(-1, 4)


_NO_ROWS = Rows(_table([]), np.zeros(0, np.int32), _table([]), (), ())


def _example(index: int, path: Path, rows: Rows, summary: Counter[str]) -> Example | Unreadable:
    data, reason = b"", None
    try:
        data = read_image_file(path)
        height, width = decode_whole_image(data, str(path)).shape[:2]
    except DataError as error:
        reason = str(error)
        height, width = note_unreadable(error, np.concatenate([rows.boxes, rows.regions]), summary, path.name)
    box_places, region_places = (
        [(path.name, f"annotations/{path.stem}.txt:{line}") for line in lines]
        for lines in (rows.box_lines, rows.region_lines)
    )
    boxes, kept = clean_boxes(rows.boxes, height, width, summary, box_places)
    example = Example(
        image=data,
        boxes=boxes,
        classes=rows.classes[kept],
        ignore=clean_regions(rows.regions, height, width, summary, region_places),
        image_id=index,
        file_name=path.name,
        height=height,
        width=width,
    )
    return example if reason is None else Unreadable(example, reason)
