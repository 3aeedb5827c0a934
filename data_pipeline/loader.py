"""Deterministic loading with Grain: random access by step, sharded per process, in threads or worker processes."""

import logging
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from data_pipeline.augment.augmentation import Augmentation, letterboxed
from data_pipeline.balance import BalancedOrder, repeat_factors
from data_pipeline.batch import Batch
from data_pipeline.dataset import Dataset
from data_pipeline.order import Order
from data_pipeline.pictures import Pictures
from data_pipeline.rows import Capacity, Row, cut_boxes, make_row, padding_row, stack_rows
from data_pipeline.stream import iterate
from data_pipeline.tiling.tile_images import TileImages
from data_pipeline.training_rows import Draw, MostBoxes, TrainingRow, draw_size

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoaderOptions:
    """Options of the loader: shape of the batches, processes and threads, randomness and memory.

    Attributes:
      image_size: Height and width of the images in a batch, px.
      image_sizes: Sizes of training batches, such as ((512, 512), (640, 640), (768, 768)), for multi-scale training.
        Every batch has one of them, drawn by seed and step with equal probability. The training step is compiled once
        for each size. Evaluation uses `image_size`. Empty for training at `image_size` alone.
      batch_size: Number of images in a batch, over all processes.
      max_boxes: Number of boxes that a row can hold. If an image has more, a random subset is kept (in an evaluation,
        the first ones). The others become ignore regions while there is room, and are counted.
      box_buckets: Smaller numbers of boxes that a row may hold, such as (64, 128). Every training batch uses the
        smallest that is enough for all boxes its images can yield. The training step is compiled once for each number.
        Evaluation does not use them.
      max_ignore: Number of ignore regions that a row can hold. If an image has more, the largest are kept.
      workers: Worker processes for training batches. 0 loads in this process. With workers, a script needs the usual
        `if __name__ == "__main__":`.
      threads: Loading threads in each of these processes. 0 loads in the caller's thread.
      seed: Seed of the order and the augmentation.
      balance: Share of images below which a class counts as rare, in (0, 1], for class-balanced sampling. Images with
        rare classes are then drawn more often, alone and in mosaics; see `repeat_factors`. An epoch keeps its number of
        images. None draws every image once in an epoch.
      augmentation: Augmentation of training batches.
      cache_bytes: Budget for decoded images in memory, over all worker processes. 0 decodes an image at every use.
      strict: Stop the run at an image, or at a row of a label file, that cannot be read. Otherwise it is named, counted
        and left out. An ignore region takes the place of an image in training; in an evaluation, its objects count as
        missed.
    """

    image_size: tuple[int, int] = (640, 640)
    batch_size: int = 16
    max_boxes: int = 300
    box_buckets: tuple[int, ...] = ()
    max_ignore: int = 32
    workers: int = 0
    threads: int = 2
    seed: int = 0
    balance: float | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache_bytes: int = 2 << 30
    strict: bool = False
    image_sizes: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        positive = {name: getattr(self, name) for name in ("batch_size", "max_boxes", "max_ignore")}
        positive |= {"image_size[0]": self.image_size[0], "image_size[1]": self.image_size[1]}
        positive |= {f"image_sizes[{i}]": min(size) for i, size in enumerate(self.image_sizes)}
        counts = {name: getattr(self, name) for name in ("workers", "threads", "cache_bytes", "seed")}
        for least, values in ((1, positive), (0, counts)):
            for name, value in values.items():
                if value < least:
                    raise ValueError(f"LoaderOptions.{name}: expected at least {least}, got {value}")
        if any(not 0 < bucket < self.max_boxes for bucket in self.box_buckets):
            raise ValueError(
                f"LoaderOptions.box_buckets: expected numbers from 1 to max_boxes={self.max_boxes} - 1, "
                f"got {self.box_buckets}"
            )

        if self.balance is not None and not 0 < self.balance <= 1:
            raise ValueError(
                f"LoaderOptions.balance: expected a share of images in (0, 1], or None, got {self.balance}; classes "
                "that are in a smaller share of the images are drawn more often"
            )

    @property
    def training_sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of training batches, px: `image_sizes`, or `image_size` alone."""
        return self.image_sizes or (self.image_size,)

    def size_at(self, step: int) -> int:
        """Return the number in `training_sizes` of the size that the batch of `step` has, in every process."""
        return draw_size(self.seed, step, len(self.training_sizes))

    @property
    def capacity(self) -> Capacity:
        """Numbers of boxes and ignore regions that a row can hold."""
        return Capacity(self.max_boxes, self.max_ignore)


class TrainLoader:
    """Endless sequence of training batches. The seed and the step decide the images, their order and augmentation.

    Every epoch shuffles anew; tiles are shuffled within groups of images (`TileOrder`). Batches continue across the end
    of an epoch, so that every image is seen once per `len(dataset)` samples, unless `balance` draws some images more
    often than others. Process p of n holds rows p, p + n, … of each global batch. The union of these rows does not
    depend on n.

    Attributes:
      steps_per_epoch: Number of whole batches in the data set, at least 1.
      dropped_boxes: Number of boxes beyond `max_boxes` in the batches that `batches` has yielded.
      dropped_regions: Number of ignore regions beyond `max_ignore` in these batches.
      unreadable: Number of images in these batches that could not be read.

    Args:
      dataset: Data set with at least one image.
      options: Options of the batches.
      process_index: Index of this process.
      process_count: Number of processes that share a global batch.

    Raises:
      ValueError: The data set is empty, or the processes cannot share the batch size equally.
    """

    def __init__(
        self, dataset: Dataset, options: LoaderOptions, process_index: int = 0, process_count: int = 1
    ) -> None:
        import grain

        if len(dataset) == 0:
            raise ValueError(f"{dataset.name}/{dataset.split}: expected at least one image, got none")
        self.options = options
        self.steps_per_epoch = max(1, len(dataset) // options.batch_size)
        self.dropped_boxes = 0
        self.dropped_regions = 0
        self.unreadable = 0
        local_size = _local_size(options.batch_size, process_index, process_count)
        sizes = options.training_sizes
        cache_bytes = options.cache_bytes // max(1, options.workers) // len(sizes)
        pictures = tuple(Pictures(dataset, size, cache_bytes, options.strict) for size in sizes)
        # The number of transforms before `random_map` decides its random numbers, so `repeat` comes after it.
        drawn = grain.MapDataset.range(len(dataset)).seed(options.seed).shuffle()
        drawn = drawn.map_with_index(
            Draw(len(dataset), options.seed, options.batch_size, len(sizes), _order(dataset, options))
        )
        rows = drawn.random_map(TrainingRow(pictures, options.augmentation, options.capacity)).repeat()
        self._batches = rows[process_index::process_count].batch(local_size, drop_remainder=True, batch_fn=stack_rows)
        # The bounds cover the rows of all processes, so that all parts of a batch have the same shape.
        bounds = drawn.random_map(
            MostBoxes(np.diff(dataset.table.box_start), dataset.table.sizes, options.augmentation)
        ).repeat()
        self._most_boxes = bounds.batch(options.batch_size, drop_remainder=True, batch_fn=max)

    def batch_at(self, step: int) -> Batch:
        """Return this process's part of the batch of `step`, by random access, in the caller's thread."""
        return self._cut(step, self._batches[step].batch)

    def of_one_shape(self, count: int) -> list[Batch]:
        """Return this process's part of the first `count` batches, all with room for the boxes of the fullest one.

        Raises:
          ValueError: The batches have several sizes.
        """
        if len(self.options.training_sizes) > 1:
            raise ValueError(
                f"LoaderOptions.image_sizes: expected one size of batches, got {self.options.image_sizes}; leave it out"
            )
        room = max(self._room(step) for step in range(count))
        return [cut_boxes(self._batches[step].batch, room) for step in range(count)]

    def batches(self, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield this process's part of all batches from `start_step` on, equal to those of `batch_at`.

        Any step is reached without reading the steps before it. Closing the iterator ends its threads and worker
        processes.
        """
        for step, row in enumerate(
            iterate(self._batches[start_step:], self.options.threads, self.options.workers), start_step
        ):
            self._count(row)
            yield self._cut(step, row.batch)

    def _cut(self, step: int, batch: Batch) -> Batch:
        return cut_boxes(batch, self._room(step))

    def _room(self, step: int) -> int:
        if not self.options.box_buckets:
            return self.options.max_boxes
        needed = self._most_boxes[step]
        return min((b for b in self.options.box_buckets if b >= needed), default=self.options.max_boxes)

    def _count(self, row: Row) -> None:
        boxes, regions = int(row.dropped_boxes.sum()), int(row.dropped_regions.sum())
        if boxes and not self.dropped_boxes:
            image_id = row.batch.image_id[np.argmax(row.dropped_boxes)]
            _logger.warning(
                "%d boxes of a batch do not fit (image %d): expected at most max_boxes=%d per image. They become "
                "ignore regions, or are lost if there is no room. Fix: raise max_boxes. Later ones are counted "
                "without a message.",
                boxes, image_id, self.options.max_boxes,
            )  # fmt: skip
        self.dropped_boxes += boxes
        self.dropped_regions += regions
        self.unreadable += int(row.unreadable.sum())


def eval_batches(
    dataset: Dataset, options: LoaderOptions, process_index: int = 0, process_count: int = 1
) -> Generator[Batch, None, None]:
    """Yield letterboxed batches of all images, in order and once.

    `valid` is False for rows that fill up the last batch and for images that could not be read. Images are loaded in
    max(threads, workers) threads of this process, because starting processes takes longer than most evaluations.

    Args:
      dataset: Data set to read.
      options: Options of the batches. Augmentation, seed and cache are not used.
      process_index: Index of this process.
      process_count: Number of processes that share a global batch. All get the same number of batches.
    """
    import grain

    local_size = _local_size(options.batch_size, process_index, process_count)
    excess = sum(max(0, len(dataset.annotations(i).boxes) - options.max_boxes) for i in range(len(dataset)))
    if excess:
        _logger.warning(
            "%s/%s: %d boxes do not fit: expected at most max_boxes=%d per image. In the batches they become ignore "
            "regions, or are lost if there is no room. Fix: raise max_boxes.",
            dataset.name, dataset.split, excess, options.max_boxes,
        )  # fmt: skip
    padded = -(-len(dataset) // options.batch_size) * options.batch_size
    rows = grain.MapDataset.range(padded).map(
        _EvaluationRow(Pictures(dataset, options.image_size, 0, options.strict), options.capacity)
    )
    batches = rows[process_index::process_count].batch(local_size, drop_remainder=True, batch_fn=stack_rows)
    for row in iterate(batches, max(options.threads, options.workers), workers=0):
        yield row.batch


@dataclass(frozen=True)
class _EvaluationRow:
    pictures: Pictures
    capacity: Capacity

    def __call__(self, index: int) -> Row:
        if index >= len(self.pictures):
            return padding_row(self.pictures.size, self.capacity)
        example = self.pictures.annotations(index)
        sample = letterboxed(self.pictures, index)
        row = make_row(sample, self.capacity, index, (example.height, example.width))
        return row._replace(batch=row.batch._replace(valid=np.asarray(not sample.unreadable)))


def _order(dataset: Dataset, options: LoaderOptions) -> Order | None:
    """Return the order of the images; None for the shuffled one."""
    if options.balance is not None:
        return BalancedOrder(repeat_factors(dataset, options.balance), options.seed)
    return dataset.images.order(options.seed) if isinstance(dataset.images, TileImages) else None


def _local_size(batch_size: int, process_index: int, process_count: int) -> int:
    if batch_size % process_count:
        raise ValueError(
            f"batch_size={batch_size}: expected a multiple of the {process_count} processes. "
            f"Fix: use {-(-batch_size // process_count) * process_count}."
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index={process_index}: expected 0 <= process_index < {process_count}")
    return batch_size // process_count
