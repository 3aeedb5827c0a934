"""Random access to annotated images: encoded bytes from a source, annotations from arrays held in memory."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, SupportsIndex, runtime_checkable

import numpy as np


class Example(NamedTuple):
    """One annotated image.

    Attributes:
      image: the encoded file (JPEG, PNG, …); `b""` from `Dataset.annotations`.
      boxes: float32 [n, 4] xyxy px of the stored image.
      labels: int32 [n], 0-based class index.
      ignore: float32 [r, 4] xyxy px, regions that are neither object nor background.
      image_id: index of the record in its split.
      file_name: name of the source file, relative to its image folder.
      height: px of the stored image.
      width: px of the stored image.
    """

    image: bytes
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    image_id: int
    file_name: str
    height: int
    width: int


@runtime_checkable
class ImageSource(Protocol):
    """Anything that gives encoded image i; has to pickle if worker processes are used."""

    def __getitem__(self, index: int, /) -> bytes:
        """Returns the bytes of encoded image `index`."""
        ...


class AnnotationTable(NamedTuple):
    """Annotations of all images in flat arrays: image i owns rows `box_start[i]:box_start[i+1]`.

    Attributes:
      boxes: float32 [n, 4] xyxy px.
      labels: int32 [n].
      box_start: int64 [images + 1].
      ignore: float32 [r, 4] xyxy px.
      ignore_start: int64 [images + 1].
      sizes: int32 [images, 2], height and width, px.
    """

    boxes: np.ndarray
    labels: np.ndarray
    box_start: np.ndarray
    ignore: np.ndarray
    ignore_start: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """One split of a data set as a random-access sequence of `Example`; picklable, safe to read from threads.

    Attributes:
      name: of the data set, such as `tiny_scenes`.
      split: `train` or `val`.
      classes: class names; a label is an index into them.
      file_names: one per image.
      source_ids: the image's identifier in the source (COCO image id, file stem), one per image.
      category_ids: the class's identifier in the source, one per class.
      table: annotations of all images.
      images: encoded images, by index.
      summary: how often each recoverable fault was dropped or clipped when the split was built.
      unreadable: messages of the images that could not be read then, by index.
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

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index: SupportsIndex) -> Example:
        """Reads image `index` with its annotations; the image stays encoded.

        Raises:
          IndexError: `index` is outside [0, len).
        """
        example = self.annotations(index)
        return example._replace(image=self.images[example.image_id])

    def annotations(self, index: SupportsIndex) -> Example:
        """Gives the annotations of image `index` without touching the disk; `image` is `b""`.

        Raises:
          IndexError: `index` is outside [0, len).
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
            labels=table.labels[boxes].copy(),
            ignore=table.ignore[regions].copy(),
            image_id=index,
            file_name=self.file_names[index],
            height=int(height),
            width=int(width),
        )


@runtime_checkable
class DataSource(Protocol):
    """A data set that has not been opened yet: what an experiment names. `CocoJson` and `VisDrone` are two of ours.

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
    """Makes a data set of examples held in memory, for a few images or for data that comes from elsewhere.

    Args:
      examples: with encoded images; `image_id` is replaced by the position.
      classes: class names.
      name: of the data set.
      split: `train` or `val`.
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
    """Joins the annotations of examples into one table."""

    def starts(counts: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)

    def join(arrays: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
        return np.concatenate([empty, *arrays]).astype(empty.dtype)

    return AnnotationTable(
        boxes=join([example.boxes for example in examples], np.zeros((0, 4), np.float32)),
        labels=join([example.labels for example in examples], np.zeros(0, np.int32)),
        box_start=starts([len(example.boxes) for example in examples]),
        ignore=join([example.ignore for example in examples], np.zeros((0, 4), np.float32)),
        ignore_start=starts([len(example.ignore) for example in examples]),
        sizes=np.array([(example.height, example.width) for example in examples], np.int32).reshape(-1, 2),
    )
