"""Classes that are no objects: a data set's boxes of them become ignore regions."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.dataset import Dataset
from data_pipeline.errors import DataError

IGNORED = "boxes of ignored classes (now ignore regions)"
_NO_OBJECT = re.compile(r"ignored?(regions?|areas?|objects?)?|dontcares?")


def with_ignored_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return a data set in which the boxes of some classes are ignore regions, and which does not have these classes.

    Many converted data sets have a class such as `ignored regions` for crowds and blurred areas. As a class it would be
    learned, and detections inside would count as false.

    Args:
      dataset: Data set.
      names: Names of the classes to ignore. The labels of the others close up, in their order. Without names, the data
        set is unchanged.

    Raises:
      DataError: The data set does not have such a class, or no class would be left.
    """
    if not names:
        return dataset
    kept = kept_classes(dataset.classes, names, f"{dataset.name}/{dataset.split}")
    table, images = dataset.table, np.arange(len(dataset))
    new_label = np.full(len(dataset.classes), -1, np.int32)
    new_label[list(kept)] = np.arange(len(kept))
    classes = new_label[table.classes]
    ignored = classes < 0
    image_of_box = np.repeat(images, np.diff(table.box_start))
    image_of_region = np.concatenate([np.repeat(images, np.diff(table.ignore_start)), image_of_box[ignored]])
    order = np.argsort(image_of_region, kind="stable")  # those that were regions come first

    def starts(owners: np.ndarray) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(images)))]).astype(np.int64)

    return replace(
        dataset,
        classes=tuple(dataset.classes[label] for label in kept),
        category_ids=tuple(dataset.category_ids[label] for label in kept),
        table=table._replace(
            boxes=table.boxes[~ignored],
            classes=classes[~ignored],
            box_start=starts(image_of_box[~ignored]),
            ignore=np.concatenate([table.ignore, table.boxes[ignored]])[order],
            ignore_start=starts(image_of_region),
        ),
        summary=dataset.summary | ({IGNORED: int(ignored.sum())} if ignored.any() else {}),
    )


def kept_classes(classes: Sequence[str], ignored: Sequence[str], where: str | Path) -> tuple[int, ...]:
    """Return the labels of the classes that are not ignored.

    Args:
      classes: All class names.
      ignored: Names of the classes to ignore.
      where: Data set or file, for the error message.

    Raises:
      DataError: A name is none of the classes, or no class is left.
    """
    unknown = [name for name in ignored if name not in classes]
    if unknown:
        raise DataError(
            f"ignore_classes: expected classes of {where}, which are {', '.join(classes)}, got {unknown[0]!r}. "
            "Fix: correct the name, or leave it out."
        )
    kept = tuple(label for label, name in enumerate(classes) if name not in ignored)
    if not kept:
        raise DataError(f"ignore_classes: expected that a class of {where} is left, got all of them. Fix: keep one.")
    return kept


def no_objects(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the class names that read like regions to ignore.

    Example:
      >>> no_objects(["car", "ignored regions", "DontCare", "ignore"])
      ('ignored regions', 'DontCare', 'ignore')
    """
    return tuple(name for name in classes if _NO_OBJECT.fullmatch(re.sub(r"[^a-z]", "", name.lower())))


def ignored_classes_note(classes: Sequence[str], option: str = "--data.ignore-classes") -> str:
    """Return the advice to ignore the classes whose names read like regions to ignore; empty if there are none.

    Args:
      classes: Class names.
      option: Option of the command line that ignores classes.
    """
    names = no_objects(classes)
    if not names or len(names) == len(classes):
        return ""
    counts = "counts as a class" if len(names) == 1 else "count as classes"
    quoted = " ".join(f'"{name}"' for name in names)
    return f"{', '.join(map(repr, names))} {counts}. If the boxes are regions to ignore, add {option} {quoted}."
