"""The whole check of a data set: faults, leaks between splits, statistics, and advice."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.check.boxes import Neighbours, neighbours_of, quantiles
from data_pipeline.check.duplicates import Leak, leaks_between, repeated_images
from data_pipeline.check.pixels import fingerprints_of
from data_pipeline.check.sizes import Sizes, size_advice, sizes_of
from data_pipeline.cleaning import UNREADABLE
from data_pipeline.dataset import Dataset
from data_pipeline.faults import Fault
from data_pipeline.ignored_classes import ignored_classes_note
from data_pipeline.wording import counted

_IMBALANCE = 20.0


@dataclass(frozen=True)
class SplitCheck:
    """Findings in one split.

    Attributes:
      split: Name of the split.
      images: Number of images.
      objects: Number of objects.
      ignore_regions: Number of ignore regions.
      faults: Faults, with the image and the annotation that has each.
      remarks: Numbers of entries that were read in a special way, by reason. They are no faults.
      unlabelled: File names of the images with neither objects nor ignore regions.
      sizes: Objects by size and class.
      crowding: Objects in an image at 0, 5, 25, 50, 75, 95 and 100 % of the images.
      most_crowded: File name of the image with the most objects; empty without images.
      neighbours: Boxes beside other boxes; None without boxes.
    """

    split: str
    images: int
    objects: int
    ignore_regions: int
    faults: tuple[Fault, ...]
    remarks: dict[str, int]
    unlabelled: tuple[str, ...]
    sizes: Sizes
    crowding: tuple[float, ...]
    most_crowded: str
    neighbours: Neighbours | None


@dataclass(frozen=True)
class DataCheck:
    """Findings in a data set.

    Attributes:
      name: Name of the data set.
      classes: Class names.
      image_size: Height and width of the network's input, px.
      splits: Findings of every split.
      leaks: Images that are in two splits, equal or nearly equal.
      advice: Sentences about settings that would fit the data better. They are no faults.
    """

    name: str
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    splits: tuple[SplitCheck, ...]
    leaks: tuple[Leak, ...]
    advice: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """True if there are no faults and no leaks."""
        return not self.leaks and not any(split.faults for split in self.splits)


def check_splits(
    datasets: Sequence[Dataset],
    *,
    image_size: tuple[int, int] = (640, 640),
    finest_stride: int = 8,
    max_boxes: int = 300,
    max_detections: int = 500,
    threads: int = 2,
    on_image: Callable[[], object] = lambda: None,
) -> DataCheck:
    """Check all splits of a data set. Every image is decoded once.

    Args:
      datasets: Splits, the training split first.
      image_size: Height and width of the network's input, px.
      finest_stride: Pixels per cell of the finest level of the network.
      max_boxes: Number of boxes that a training row can hold (`LoaderOptions.max_boxes`).
      max_detections: Largest number of detections per image.
      threads: Number of decoding threads.
      on_image: Function that is called after every image, for example to show progress.

    Raises:
      ValueError: There are no splits.
    """
    if not datasets:
        raise ValueError("check_splits: expected at least one split, got none; pass the training images")
    prints = [fingerprints_of(dataset, threads=threads, on_image=on_image) for dataset in datasets]
    splits = []
    for dataset, found in zip(datasets, prints, strict=True):
        neighbours, faults = neighbours_of(dataset)
        faults = [*_read_faults(dataset, found.errors), *repeated_images(dataset, found), *faults]
        splits.append(_split_check(dataset, image_size, faults, neighbours))
    advice = [
        *size_advice(datasets[0], image_size, finest_stride),
        *_room_advice(datasets, max_boxes, max_detections),
        *_class_advice(datasets[0].classes, splits),
        *_box_advice(splits[0]),
    ]
    return DataCheck(
        name=datasets[0].name,
        classes=datasets[0].classes,
        image_size=image_size,
        splits=tuple(splits),
        leaks=tuple(leaks_between(datasets, prints)),
        advice=tuple(advice),
    )


def _read_faults(dataset: Dataset, errors: dict[int, str]) -> list[Fault]:
    """Return the faults that the source noted, and those of images that cannot be read now."""
    known = {fault.image for fault in dataset.noted if fault.reason == UNREADABLE}
    names = dataset.file_names
    return [
        *dataset.noted,
        *(Fault(names[index], error, UNREADABLE) for index, error in errors.items() if names[index] not in known),
    ]


def _split_check(
    dataset: Dataset, image_size: tuple[int, int], faults: list[Fault], neighbours: Neighbours | None
) -> SplitCheck:
    noted = Counter(fault.reason for fault in dataset.noted)
    counts, regions = np.diff(dataset.table.box_start), np.diff(dataset.table.ignore_start)
    empty = np.flatnonzero((counts == 0) & (regions == 0)).tolist()
    return SplitCheck(
        split=dataset.split,
        images=len(dataset),
        objects=len(dataset.table.boxes),
        ignore_regions=len(dataset.table.ignore),
        faults=tuple(faults),
        remarks=dict(sorted((Counter(dataset.summary) - noted).items())),
        unlabelled=tuple(dataset.file_names[index] for index in empty),
        sizes=sizes_of(dataset, image_size),
        crowding=quantiles(counts, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)) if len(counts) else (),
        most_crowded=dataset.file_names[int(counts.argmax())] if len(counts) else "",
        neighbours=neighbours,
    )


def _room_advice(datasets: Sequence[Dataset], max_boxes: int, max_detections: int) -> list[str]:
    advice = []
    for dataset in datasets:
        counts = np.diff(dataset.table.box_start)
        most = int(counts.max(initial=0))
        for name, room in (("loader.max_boxes", max_boxes), ("postprocess.max_detections", max_detections)):
            if most > room:
                images = int((counts > room).sum())
                have = "has" if images == 1 else "have"
                advice.append(
                    f"{dataset.split}: {counted(images, 'image')} {have} more objects than {name} = {room}; "
                    f"the most is {most}. Raise it."
                )
    return advice


def _class_advice(classes: tuple[str, ...], splits: Sequence[SplitCheck]) -> list[str]:
    first, *others = splits
    counts = {name: sum(bins.values()) for name, bins in first.sizes.by_class.items()}
    present = {name: count for name, count in counts.items() if count}
    advice = [note] if (note := ignored_classes_note(classes)) else []
    missing = [name for name in classes if not counts[name]]
    if missing and present:
        advice.append(f"{first.split} has no objects of {', '.join(missing)}, which therefore cannot be learned.")
    for split in others:
        unseen = [name for name, bins in split.sizes.by_class.items() if not sum(bins.values()) and counts[name]]
        if unseen and split.objects:
            advice.append(f"{split.split} has no objects of {', '.join(unseen)}, which therefore get no score.")
    if present and max(present.values()) > _IMBALANCE * min(present.values()):
        most, least = max(present, key=counts.__getitem__), min(present, key=counts.__getitem__)
        advice.append(
            f"{most} has {counts[most] / counts[least]:.0f} times as many objects as {least} ({counts[most]:,} and "
            f"{counts[least]:,}): sample images by class, or expect a low score for {least}."
        )
    return advice


def _box_advice(split: SplitCheck) -> list[str]:
    if split.neighbours is None or split.neighbours.suppressed < 0.01:
        return []
    return [
        f"{100 * split.neighbours.suppressed:.1f} % of the objects of {split.split} overlap another one of their class "
        "with IoU > 0.6: non-maximum suppression loses some of them. Raise postprocess.iou_threshold."
    ]
