"""Data sets in COCO detection format, with an annotation file and a folder of images per split."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.cache import SourceId, SplitRecipe, Unreadable, file_stamps, fingerprint, open_split
from data_pipeline.cleaning import clean_boxes, clean_regions, note_unreadable
from data_pipeline.dataset import Dataset, Example
from data_pipeline.decoding.images import read_image_file
from data_pipeline.decoding.orientation import is_turned
from data_pipeline.decoding.whole_images import decode_whole_image
from data_pipeline.errors import DataError
from data_pipeline.faults import Faults
from data_pipeline.ignored_classes import kept_classes
from data_pipeline.sources.coco_parse import CocoFile, CocoImage, read_coco
from data_pipeline.sources.find_files import find_files

_VERSION = 2


@dataclass(frozen=True)
class CocoJson:
    """A data set in COCO detection format.

    Categories become labels 0, 1, … in the order of their ids. Annotations that are marked as crowd, ignored, uncertain
    or difficult become ignore regions.

    Boxes with NaN, without area or wholly outside their image are dropped, and boxes partly outside are clipped.
    Annotations of unlisted images and repeated entries are dropped. All are counted in a printed summary. Images that
    are missing, unreadable, damaged or of a different size than annotated are named and counted. They are an error if
    they are more than half of all images, or with `LoaderOptions.strict`. Any other fault, such as an unknown category,
    is a DataError.

    Boxes belong to the upright image, after its EXIF orientation is applied. If `bbox` is missing, the box is taken
    from the `segmentation`. File names that differ from the files in folder, case or spelling are matched if exactly
    one file fits.

    Attributes:
      train_images: Folder to which the file names in `train_json` are relative.
      train_json: Annotation file of the training split.
      val_images: Folder to which the file names in `val_json` are relative.
      val_json: Annotation file of the validation split.
      ignore_classes: Names of categories whose boxes are ignore regions and which are no classes, such as
        `("ignored regions",)`.
    """

    train_images: Path
    train_json: Path
    val_images: Path
    val_json: Path
    ignore_classes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names from the training annotations, without ignored ones. A label is an index into them.

        Raises:
          DataError: The training annotations cannot be read, or do not have an ignored class.
        """
        names = self._read("train").classes
        return tuple(names[label] for label in kept_classes(names, self.ignore_classes, self.train_json))

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Open a split. It is converted once and then read from the cache.

        Args:
          split: Name of the split, `train` or `val`.
          cache_dir: Folder of built data sets. None means the environment variable UGS_CACHE, or else
            `~/.cache/ugs_jax/datasets`.

        Raises:
          ValueError: The split is unknown.
          DataError: The input cannot be used. The message names the file and the entry.
        """
        folder, path = self._paths(split)
        content = self._read(split)
        self._check_same_categories()
        renamed: Counter[str] = Counter()
        names, renaming = find_files(folder, [image.file_name for image in content.images], renamed)

        def examples(summary: Faults) -> Iterator[tuple[SourceId, Example | Unreadable]]:
            summary.include(content.summary)
            summary.update(renamed)
            for index, (image, name) in enumerate(zip(content.images, names, strict=True)):
                yield image.source_id, _example(index, image, name, folder, path, summary)

        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        stamps = file_stamps(folder, [name for name in names if isinstance(name, str)])
        recipe = SplitRecipe(
            name="coco_json",
            split=split,
            classes=content.classes,
            category_ids=content.category_ids,
            fingerprint=fingerprint("coco_json", _VERSION, split, digest, stamps),
            examples=examples,
            notes=(*content.notes, *([] if renaming is None else [f"{path}: {renaming}"])),
            ignore_classes=self.ignore_classes,
        )
        return open_split(recipe, cache_dir)

    def _paths(self, split: str) -> tuple[Path, Path]:
        if split not in ("train", "val"):
            raise ValueError(f"split: expected 'train' or 'val', got {split!r}.")
        if split == "train":
            return Path(self.train_images), Path(self.train_json)
        return Path(self.val_images), Path(self.val_json)

    def _read(self, split: str) -> CocoFile:
        return read_coco(self._paths(split)[1])

    def _check_same_categories(self) -> None:
        train, val = self._read("train"), self._read("val")
        expected = dict(zip(train.category_ids, train.classes, strict=True))
        got = dict(zip(val.category_ids, val.classes, strict=True))
        if got != expected:
            raise DataError(
                f"{self.val_json}: expected the categories of {self.train_json}, {expected}, got {got}. "
                "Fix: list the same categories, ids and names, in both files."
            )


def _example(
    index: int, image: CocoImage, name: str | DataError, folder: Path, path: Path, summary: Faults
) -> Example | Unreadable:
    corners = np.array(image.boxes, np.float64).reshape(-1, 4)
    regions = np.array(image.regions, np.float64).reshape(-1, 4)
    file_name = image.file_name if isinstance(name, DataError) else name
    data, reason = b"", None
    try:
        if isinstance(name, DataError):
            raise DataError(f"{path}: image id {image.source_id!r}: {name}")
        file = folder / name
        data = read_image_file(file)
        height, width = _size(data, image, file, path)
    except DataError as error:
        reason = str(error)
        height, width = note_unreadable(error, np.concatenate([corners, regions]), summary, file_name)
        height, width = image.height or height, image.width or width
    boxes, kept = clean_boxes(corners, height, width, summary, _places(file_name, image, marked=False))
    example = Example(
        image=data,
        boxes=boxes,
        classes=np.array(image.classes, np.int32)[kept],
        ignore=clean_regions(regions, height, width, summary, _places(file_name, image, marked=True)),
        image_id=index,
        file_name=file_name,
        height=height,
        width=width,
    )
    return example if reason is None else Unreadable(example, reason)


def _places(file_name: str, image: CocoImage, *, marked: bool) -> list[tuple[str, str]]:
    return [(file_name, place) for place in image.places(marked=marked)]


def _size(data: bytes, image: CocoImage, file: Path, path: Path) -> tuple[int, int]:
    """Return height and width of the upright image. If EXIF rotates it, the annotation may have either order."""
    height, width = decode_whole_image(data, str(file)).shape[:2]
    expected = (image.height or height, image.width or width)
    turned = is_turned(data)
    if expected != (height, width) and not (turned and expected == (width, height)):
        upright = " upright, after its EXIF orientation is applied" if turned else ""
        raise DataError(
            f"{file}: expected {expected[1]} × {expected[0]} px, as in {path} for image id "
            f"{image.source_id!r}, got {width} × {height} px{upright}. Fix: correct 'width' and 'height', or restore "
            "the image for which they were written."
        )
    return height, width
