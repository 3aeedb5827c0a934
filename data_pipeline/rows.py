"""Fixed-shape rows of a batch: padding, and selection of boxes beyond the capacity."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.augment.augmentation import Sample
from data_pipeline.augment.geometry import sides
from data_pipeline.augment.warp import grey_canvas
from data_pipeline.batch import Batch
from data_pipeline.letterbox import Letterbox


class Capacity(NamedTuple):
    """Numbers of boxes and ignore regions that a row can hold."""

    boxes: int
    ignore: int


class Row(NamedTuple):
    """A `Batch` with or without the leading axis, and counts of its losses.

    Attributes:
      batch: Arrays of the batch.
      dropped_boxes: Number of boxes beyond the capacity, int32 [] or [B]. As many as fit became ignore regions.
      dropped_regions: Number of ignore regions beyond the capacity, the smallest ones, int32 [] or [B].
      unreadable: Number of images that could not be read, int32 [] or [B].
    """

    batch: Batch
    dropped_boxes: np.ndarray
    dropped_regions: np.ndarray
    unreadable: np.ndarray


def make_row(
    sample: Sample,
    capacity: Capacity,
    image_id: int,
    original_size: tuple[int, int],
    rng: np.random.Generator | None = None,
) -> Row:
    """Pad a sample to fixed shapes.

    Args:
      sample: Sample with any number of boxes.
      capacity: Capacity of the row.
      image_id: Index of the record.
      original_size: Height and width of the stored image, px.
      rng: Generator that draws the boxes to keep if there are too many, so that no size or class is favoured. Without
        it, the first boxes are kept.
    """
    kept, rest = _choose(len(sample.boxes), capacity.boxes, rng)
    regions = np.concatenate([sample.ignore, sample.boxes[rest]])
    largest = np.argsort(-sides(regions).prod(axis=1), kind="stable")[: capacity.ignore]
    regions_kept = regions[np.sort(largest)]
    batch = Batch(
        images=sample.image,
        boxes=_padded(sample.boxes[kept].astype(np.float32), capacity.boxes),
        classes=_padded(sample.classes[kept].astype(np.int32), capacity.boxes),
        mask=np.arange(capacity.boxes) < len(kept),
        ignore=_padded(regions_kept.astype(np.float32), capacity.ignore),
        ignore_mask=np.arange(capacity.ignore) < len(regions_kept),
        image_id=np.asarray(image_id, np.int32),
        original_size=np.asarray(original_size, np.int32),
        letterbox=np.asarray(sample.letterbox, np.float32),
        valid=np.asarray(True),
    )
    counts = (len(rest), len(regions) - len(regions_kept), sample.unreadable)
    return Row(batch, *(np.asarray(count, np.int32) for count in counts))


def padding_row(size: tuple[int, int], capacity: Capacity) -> Row:
    """Return a grey row that is ignored everywhere: `valid` is False and `image_id` is −1."""
    unity = Letterbox(1.0, 0.0, 0.0)
    empty = Sample(grey_canvas(size), np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros((0, 4)), unity)
    row = make_row(empty, capacity, -1, size)
    return row._replace(batch=row.batch._replace(valid=np.asarray(False)))


def stack_rows(rows: Sequence[Row]) -> Row:
    """Join rows along a new leading axis."""
    batch = Batch(*(np.stack(column) for column in zip(*(row.batch for row in rows), strict=True)))
    return Row(batch, *(np.stack(column) for column in list(zip(*rows, strict=True))[1:]))


def cut_boxes(batch: Batch, most: int) -> Batch:
    """Return the batch with room for `most` boxes per row, which must be enough for the boxes that it holds."""
    return batch._replace(boxes=batch.boxes[:, :most], classes=batch.classes[:, :most], mask=batch.mask[:, :most])


def _choose(count: int, limit: int, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    order = np.arange(count) if rng is None or count <= limit else rng.permutation(count)
    return np.sort(order[:limit]), np.sort(order[limit:])


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros((length, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out
