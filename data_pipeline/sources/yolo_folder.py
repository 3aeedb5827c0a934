"""Data sets in YOLO format: a data.yaml, folders of images, and a text file of boxes for each image."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.cache import SourceId, SplitRecipe, Unreadable, file_stamps, fingerprint, open_split
from data_pipeline.cleaning import clean_boxes, note_unreadable
from data_pipeline.dataset import Dataset, Example
from data_pipeline.decoding.image_headers import header_of
from data_pipeline.decoding.images import read_image_file
from data_pipeline.decoding.whole_images import decode_whole_image
from data_pipeline.errors import DataError
from data_pipeline.faults import Faults
from data_pipeline.ignored_classes import kept_classes
from data_pipeline.sources.yolo_images import count_unused_labels, find_images, find_root, label_path
from data_pipeline.sources.yolo_labels import Labels, read_labels
from data_pipeline.sources.yolo_yaml import SPLITS, DataYaml, read_data_yaml

NO_LABELS = "images without a label file (background)"
_VERSION = 1
_NAMED = 5
_UNKNOWN_SIZE = (640, 640)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class YoloFolder:
    """A data set in YOLO format, as data.yaml describes it.

    Rows of five values are boxes. Longer rows are polygons, and the upright box around each is used. An image without a
    label file is background. Faulty rows are dropped and counted, and the first are named with file and line; the other
    rows of their image are used. More than half faulty rows, or a split in which no image has a label file, is a
    DataError. Images are treated as in `CocoJson`. docs/datasets.md has all rules.

    Attributes:
      yaml: Path of the data.yaml.
      ignore_classes: Names of classes whose boxes are ignore regions and which are not learned, such as
        `("ignored regions",)`.
    """

    yaml: Path
    ignore_classes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names from data.yaml, without ignored ones. A label is an index into them.

        Raises:
          DataError: The file cannot be read, or does not have an ignored class.
        """
        names = self._read().classes
        return tuple(names[label] for label in kept_classes(names, self.ignore_classes, self.yaml))

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Open a split. It is converted once and then read from the cache.

        Args:
          split: Name of the split: `train`, `val`, or `test` if data.yaml has it.
          cache_dir: Folder of built data sets. None means the environment variable UGS_CACHE, or else
            `~/.cache/ugs_jax/datasets`.

        Raises:
          ValueError: The split is unknown.
          DataError: The input cannot be used. The message names the file and the line.
        """
        data = self._read()
        root, notes = self._root(data, split)
        images = find_images(data, split, root)
        labels = [label_path(path) for path in images.paths]
        names = [_name(path, root) for path in images.paths]

        def examples(summary: Faults) -> Iterator[tuple[SourceId, Example | Unreadable]]:
            summary.include(images.summary)
            summary.include(count_unused_labels(images.paths))
            summary.update(_in_other_splits(data, split, root, images.paths))
            parsed = _read_all(data, names, labels, summary)  # all labels are read before any image
            if all(content is None for content in parsed):
                raise _no_labels(data, images.paths)
            ids = _source_ids(images.paths, root)
            for index, (path, content) in enumerate(zip(images.paths, parsed, strict=True)):
                listed = images.listed.get(path)
                yield ids[index], _example(index, path, names[index], content, listed, summary)

        stamps = file_stamps(root, [str(path) for path in (*images.paths, *labels)])
        recipe = SplitRecipe(
            name="yolo_folder",
            split=split,
            classes=data.classes,
            category_ids=tuple(range(len(data.classes))),
            fingerprint=fingerprint("yolo_folder", _VERSION, split, data.classes, data.keypoint_values, stamps),
            examples=examples,
            notes=notes,
            ignore_classes=self.ignore_classes,
        )
        return open_split(recipe, cache_dir)

    def count_images(self, split: str) -> int | None:
        """Return the number of images of a split. None if data.yaml does not exist.

        Raises:
          ValueError: The split is unknown.
          DataError: The split cannot be found.
        """
        if not Path(self.yaml).is_file():
            return None
        data = self._read()
        return len(find_images(data, split, self._root(data, split)[0]).paths)

    def _read(self) -> DataYaml:
        return read_data_yaml(Path(self.yaml))

    def _root(self, data: DataYaml, split: str) -> tuple[Path, tuple[str, ...]]:
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {SPLITS}, got {split!r}.")
        if split not in data.splits:
            raise DataError(
                f"{data.path}: expected the key {split!r}, the images of the split, got {', '.join(data.splits)}. "
                f"Fix: add `{split}: images/{split}`."
            )
        return find_root(data)


def _read_all(data: DataYaml, names: list[str], paths: list[Path], summary: Faults) -> list[Labels | DataError | None]:
    """Return the content of all label files: the error of a file that is no text, None for a missing one."""
    parsed: list[Labels | DataError | None] = []
    for path in paths:
        try:
            parsed.append(read_labels(path, len(data.classes), data.keypoint_values))
        except DataError as error:
            parsed.append(error)
    read = [content for content in parsed if isinstance(content, Labels)]
    faults = [fault for content in read for fault in content.faults]
    missing = sum(content is None for content in parsed)
    summary.update(Counter({NO_LABELS: missing} if missing else {}))
    for name, content in zip(names, parsed, strict=True):
        if isinstance(content, Labels):
            summary.include(content.summary, name)
    rows = sum(content.rows for content in read)
    if 2 * len(faults) > rows:
        raise DataError(
            f"{data.path}: expected label rows `class cx cy w h`, got {len(faults)} faulty ones of {rows}. "
            f"The first: {faults[0]}"
        )
    for fault in faults[:_NAMED]:
        _logger.warning("%s It is dropped.", fault)
    if len(faults) > _NAMED:
        _logger.warning("%s: %d more faulty label rows are dropped.", data.path, len(faults) - _NAMED)
    return parsed


def _no_labels(data: DataYaml, images: list[Path]) -> DataError:
    beside = next((path for image in images if (path := image.with_suffix(".txt")).is_file()), None)
    return DataError(
        f"{data.path}: expected label files of the images, found {'none' if beside is None else f'only {beside}'}, for "
        f"example no {label_path(images[0])}. Fix: put them there. The last folder 'images' in the path of an image is "
        "'labels' in that of its label file; without such a folder, the file is beside the image. If all images are "
        "background, write empty label files."
    )


def _in_other_splits(data: DataYaml, split: str, root: Path, paths: list[Path]) -> Counter[str]:
    """Count the images of a split that other splits have, too."""
    own = {os.path.normpath(path) for path in paths}
    summary: Counter[str] = Counter()
    for other in data.splits.keys() - {split}:
        try:
            shared = own & {os.path.normpath(path) for path in find_images(data, other, root).paths}
        except DataError:  # its own error once it is opened
            continue
        summary[f"images that are also in the split {other!r}"] += len(shared)
    return +summary


def _name(path: Path, root: Path) -> str:
    relative = os.path.relpath(path, root)
    name = Path(path if relative.startswith("..") else relative).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()  # file names need not be UTF-8


def _source_ids(paths: list[Path], root: Path) -> list[str]:
    """Return the stem of every image, or paths without suffix if stems are not unique."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    names = [_name(path, root) for path in paths]
    plain = [name.rpartition(".")[0] for name in names]
    return plain if len(set(plain)) == len(plain) else names


def _example(
    index: int,
    path: Path,
    name: str,
    content: Labels | DataError | None,
    listed: str | None,
    summary: Faults,
) -> Example | Unreadable:
    shares = content.boxes if isinstance(content, Labels) else np.zeros((0, 4))
    classes = content.classes if isinstance(content, Labels) else np.zeros(0, np.int32)
    data, reason = b"", None
    try:
        data = read_image_file(path)
        height, width = decode_whole_image(data, str(path)).shape[:2]
        if isinstance(content, DataError):
            raise content
    except DataError as error:
        reason = f"{listed}: {error}" if listed else str(error)
        note_unreadable(DataError(reason), np.zeros((0, 4)), summary, name)
        height, width = header_of(data) or _UNKNOWN_SIZE
    corners = shares * np.array([width, height, width, height])
    places = [(name, place) for place in content.places] if isinstance(content, Labels) else []
    boxes, kept = clean_boxes(corners, height, width, summary, places)
    example = Example(
        image=data,
        boxes=boxes,
        classes=classes[kept],
        ignore=np.zeros((0, 4), np.float32),
        image_id=index,
        file_name=name,
        height=height,
        width=width,
    )
    return example if reason is None else Unreadable(example, reason)
