"""Fixed-shape rows of a batch: padding, and what happens to boxes beyond the capacity."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.augment.augmentation import Sample
from data_pipeline.augment.geometry import sides
from data_pipeline.augment.warp import grey_canvas
from data_pipeline.batch import Batch
from data_pipeline.letterbox import Letterbox


class Capacity(NamedTuple):
    """How much fits into a row: `boxes` and `ignore` regions."""

    boxes: int
    ignore: int


class Row(NamedTuple):
    """A `Batch` with or without the leading axis, and what did not fit.

    Attributes:
      batch: the arrays.
      dropped_boxes: int32 [] or [B], boxes beyond the capacity; as many as fit became ignore regions.
      dropped_regions: int32 [] or [B], ignore regions beyond the capacity, the smallest ones.
      unreadable: int32 [] or [B], images that could not be read.
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
    """Pads a sample to fixed shapes.

    Args:
      sample: of any number of boxes.
      capacity: of the row.
      image_id: index of the record.
      original_size: height and width of the stored image, px.
      rng: chooses which boxes stay where there are too many: a random subset, so that no size or class is favoured;
        without it the first ones stay.
    """
    kept, rest = _choose(len(sample.boxes), capacity.boxes, rng)
    regions = np.concatenate([sample.ignore, sample.boxes[rest]])
    largest = np.argsort(-sides(regions).prod(axis=1), kind="stable")[: capacity.ignore]
    regions_kept = regions[np.sort(largest)]
    batch = Batch(
        images=sample.image,
        boxes=_padded(sample.boxes[kept].astype(np.float32), capacity.boxes),
        labels=_padded(sample.labels[kept].astype(np.int32), capacity.boxes),
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
    """A grey row that counts for nothing: `valid` is False, `image_id` −1."""
    unity = Letterbox(1.0, 0.0, 0.0)
    nothing = Sample(grey_canvas(size), np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros((0, 4)), unity)
    row = make_row(nothing, capacity, -1, size)
    return row._replace(batch=row.batch._replace(valid=np.asarray(False)))


def stack_rows(rows: Sequence[Row]) -> Row:
    """Joins rows along a new leading axis."""
    batch = Batch(*(np.stack(column) for column in zip(*(row.batch for row in rows), strict=True)))
    return Row(batch, *(np.stack(column) for column in list(zip(*rows, strict=True))[1:]))


def cut_boxes(batch: Batch, most: int) -> Batch:
    """The batch with room for `most` boxes a row, which must be enough for those it holds."""
    return batch._replace(boxes=batch.boxes[:, :most], labels=batch.labels[:, :most], mask=batch.mask[:, :most])


def _choose(count: int, most: int, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    order = np.arange(count) if rng is None or count <= most else rng.permutation(count)
    return np.sort(order[:most]), np.sort(order[most:])


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros((length, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out
