"""Usual layouts of COCO data sets: which annotation files belong together, and where their images are."""

import re
from collections.abc import Iterable
from pathlib import Path

from data_pipeline.decoding.images import path_inside
from data_pipeline.errors import DataError
from data_pipeline.sources.coco_json import CocoJson
from data_pipeline.sources.coco_parse import read_coco

_TRAIN = re.compile(r"(?<![a-z])train(?:ing)?(?![a-z])", re.IGNORECASE)
_VALIDATION = ("val", "valid", "validation")
_SPLITS = (*_VALIDATION, "test", "train", "training")
_OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "stuff_")
_IMAGE_FOLDERS = ("", "images", "data", "img", "imgs", "JPEGImages")
_TRIED = 20
"""Number of images by which a folder is recognised."""


def is_train_json(path: Path) -> bool:
    """Return True if the name of a file, or of its folder, has the word `train`."""
    return bool(_TRAIN.search(path.stem) or _TRAIN.search(path.absolute().parent.name))


def find_coco(files: Iterable[Path]) -> list[CocoJson]:
    """Return the data sets of which files are the annotations for training.

    The file for validation has the same path with `val`, `valid` or `validation` instead of `train`, in its name or in
    the name of its folder: annotations/instances_train2017.json and annotations/instances_val2017.json,
    train/_annotations.coco.json and valid/_annotations.coco.json, train.json and val.json. The images are beside the
    annotation file, in the folder above, or there in `images`, in `data`, or in a folder named after the split.

    Raises:
      DataError: An annotation file is not COCO JSON, or its images are not found.
    """
    pairs = [(file, val) for file in files if is_train_json(file) and (val := _validation_of(file)) is not None]
    objects = [pair for pair in pairs if not pair[0].name.startswith(_OTHER_TASKS)]
    return [
        CocoJson(
            train_images=_images_of(train, ("train", "training")), train_json=train,
            val_images=_images_of(val, _VALIDATION), val_json=val,
        )
        for train, val in objects or pairs
    ]  # fmt: skip


def coco_of_one_file(annotations: Path) -> CocoJson:
    """Return the images of one annotation file as both splits of a data set, to score a detector on them.

    Args:
      annotations: COCO annotation file of any name. Its images are looked for as `find_coco` does.

    Raises:
      DataError: The file is not COCO JSON, or its images are not found.
    """
    place = f"{annotations.absolute().parent.name} {annotations.stem}"
    named = tuple(word for word in _SPLITS if re.search(rf"(?<![a-z]){word}(?![a-z])", place, re.IGNORECASE))
    images = _images_of(annotations, _VALIDATION if set(named) & set(_VALIDATION) else named or _SPLITS)
    return CocoJson(train_images=images, train_json=annotations, val_images=images, val_json=annotations)


def _validation_of(train: Path) -> Path | None:
    """Return the annotation file for validation that belongs to one for training, or None if there is none."""
    file = train.absolute()
    for word in _VALIDATION:
        replaced = lambda text, word=word: _TRAIN.sub(lambda match: _in_case(word, match[0]), text)  # noqa: E731
        folder = file.parent.with_name(replaced(file.parent.name)) if file.parent.name else file.parent
        for found in (file.parent / replaced(file.name), folder / file.name, folder / replaced(file.name)):
            if found != file and found.is_file():
                relative = not train.is_absolute() and found.is_relative_to(Path.cwd())
                return found.relative_to(Path.cwd()) if relative else found
    return None


def _in_case(word: str, example: str) -> str:
    return word.upper() if example.isupper() else word.title() if example[0].isupper() else word


def _images_of(annotations: Path, split_words: tuple[str, ...]) -> Path:
    """Return the folder to which the file names of an annotation file are relative."""
    names = [image.file_name for image in read_coco(annotations).images]
    tried = names[:: max(1, len(names) // _TRIED)][:_TRIED]
    candidates = [
        folder for base in (annotations.parent, annotations.parent.parent) for folder in _below(base, split_words)
    ]
    counts = {folder: sum(_has(folder, name) for name in tried) for folder in dict.fromkeys(candidates)}
    best = max(counts, key=lambda folder: counts[folder])
    if not counts[best]:
        raise DataError(
            f"{annotations}: expected its images, such as {tried[0]!r}, in one of "
            f"{', '.join(str(folder) for folder in counts)}; found none. Fix: put them into one of these folders, or "
            "write a config with `CocoJson(train_images=…, train_json=…, val_images=…, val_json=…)`."
        )
    return best


def _below(base: Path, split_words: tuple[str, ...]) -> list[Path]:
    """Return the folders of a base that may hold images, those that are named after the split first."""
    folders = [base / name for name in _IMAGE_FOLDERS if (base / name).is_dir()]
    named = re.compile(rf"(?<![a-z])({'|'.join(split_words)})(?![a-z])", re.IGNORECASE)
    of_split = [
        sub / inner
        for folder in folders
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and named.search(sub.name)
        for inner in ("", "images", "data")
        if (sub / inner).is_dir()
    ]
    return of_split + folders


def _has(folder: Path, name: str) -> bool:
    try:
        return path_inside(folder, name).is_file()
    except (DataError, OSError, ValueError):
        return False
