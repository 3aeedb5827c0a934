"""Random access to annotated images: encoded bytes come from a source, annotations from arrays in memory."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, SupportsIndex, runtime_checkable

import numpy as np


class Example(NamedTuple):
    """One annotated image.

    Attributes:
      image: Bytes of the encoded file (JPEG, PNG, …). `Dataset.annotations` returns `b""` here.
      boxes: Boxes, float32 [n, 4] xyxy px of the stored image.
      classes: 0-based class indices, int32 [n].
      ignore: Regions that are neither object nor background, float32 [r, 4] xyxy px.
      image_id: Index of the record in its split.
      file_name: Name of the source file, relative to its image folder.
      height: Height of the stored image, px.
      width: Width of the stored image, px.
    """

    image: bytes
    boxes: np.ndarray
    classes: np.ndarray
    ignore: np.ndarray
    image_id: int
    file_name: str
    height: int
    width: int


@runtime_checkable
class ImageSource(Protocol):
    """Random access to encoded images. The object must be picklable if worker processes are used."""

    def __getitem__(self, index: int, /) -> bytes:
        """Return the bytes of encoded image `index`."""
        ...


class AnnotationTable(NamedTuple):
    """Annotations of all images in flat arrays: image i owns rows `box_start[i]:box_start[i+1]`.

    Attributes:
      boxes: Boxes, float32 [n, 4] xyxy px.
      classes: 0-based class indices, int32 [n].
      box_start: First row of every image in `boxes` and `classes`, and the total at the end, int64 [images + 1].
      ignore: Ignore regions, float32 [r, 4] xyxy px.
      ignore_start: First row of every image in `ignore`, and the total at the end, int64 [images + 1].
      sizes: Height and width of every image, px, int32 [images, 2].
    """

    boxes: np.ndarray
    classes: np.ndarray
    box_start: np.ndarray
    ignore: np.ndarray
    ignore_start: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """One split of a data set as a random-access sequence of `Example`. It is picklable and threads may share it.

    Attributes:
      name: Name of the data set, such as `tiny_scenes`.
      split: Name of the split, `train` or `val`.
      classes: Class names. A label is an index into them.
      file_names: File name of every image.
      source_ids: Identifier of every image in the source (COCO image id, file stem).
      category_ids: Identifier of every class in the source.
      table: Annotations of all images.
      images: Encoded images, by index.
      summary: Numbers of entries that were dropped, clipped or corrected when the split was built, by reason.
      unreadable: Error messages of the images that could not be read when the split was built, by index.
      faults: Messages, with file and line, of annotations that were dropped because they cannot be used.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    file_names: tuple[str, ...] = field(repr=False)
    source_ids: tuple[int | str, ...] = field(repr=False)
    category_ids: tuple[int, ...]
    table: AnnotationTable = field(repr=False)
    images: ImageSource = field(repr=False)
    summary: dict[str, int] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict, repr=False)
    faults: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index: SupportsIndex) -> Example:
        """Read image `index` with its annotations. The image stays encoded.

        Raises:
          IndexError: The index is outside [0, len).
        """
        example = self.annotations(index)
        return example._replace(image=self.images[example.image_id])

    def annotations(self, index: SupportsIndex) -> Example:
        """Return the annotations of image `index` without access to the disk. `image` is `b""`.

        Raises:
          IndexError: The index is outside [0, len).
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"image index {index}: expected 0 <= index < {len(self)} in {self.name}/{self.split}")
        table = self.table
        boxes = slice(int(table.box_start[index]), int(table.box_start[index + 1]))
        regions = slice(int(table.ignore_start[index]), int(table.ignore_start[index + 1]))
        height, width = table.sizes[index]
        return Example(
            image=b"",
            boxes=table.boxes[boxes].copy(),
            classes=table.classes[boxes].copy(),
            ignore=table.ignore[regions].copy(),
            image_id=index,
            file_name=self.file_names[index],
            height=int(height),
            width=int(width),
        )


@runtime_checkable
class DataSource(Protocol):
    """A data set that has not been opened yet: what an experiment names. `CocoJson` and `YoloFolder` are two of ours.

    Make it a dataclass, so that a run folder can save it; `dataset_from_examples` makes the `Dataset`.
    """

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Returns a split of the data set.

        Args:
          split: `train` or `val`; may raise ValueError for others.
          cache_dir: where built data sets are kept; None for the usual place. Sources that build nothing ignore it.
        """
        ...


def dataset_from_examples(
    examples: Sequence[Example], classes: Sequence[str], *, name: str = "examples", split: str = "train"
) -> Dataset:
    """Return a data set of examples in memory, for a few images or for data from a source of your own.

    Args:
      examples: Examples with encoded images. Their `image_id` is replaced by their position.
      classes: Class names.
      name: Name of the data set.
      split: Name of the split, `train` or `val`.
    """
    return Dataset(
        name=name,
        split=split,
        classes=tuple(classes),
        file_names=tuple(example.file_name for example in examples),
        source_ids=tuple(example.image_id for example in examples),
        category_ids=tuple(range(len(classes))),
        table=tabulate(examples),
        images=[example.image for example in examples],
    )


def tabulate(examples: Sequence[Example]) -> AnnotationTable:
    """Join the annotations of examples into one table."""

    def starts(counts: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)

    def join(arrays: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
        return np.concatenate([empty, *arrays]).astype(empty.dtype)

    return AnnotationTable(
        boxes=join([example.boxes for example in examples], np.zeros((0, 4), np.float32)),
        classes=join([example.classes for example in examples], np.zeros(0, np.int32)),
        box_start=starts([len(example.boxes) for example in examples]),
        ignore=join([example.ignore for example in examples], np.zeros((0, 4), np.float32)),
        ignore_start=starts([len(example.ignore) for example in examples]),
        sizes=np.array([(example.height, example.width) for example in examples], np.int32).reshape(-1, 2),
    )
