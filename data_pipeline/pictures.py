"""Cache of decoded images at load resolution, in memory up to a byte budget."""

import logging
import threading
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from data_pipeline.cache import ArrayRecordImages
from data_pipeline.cleaning import UNREADABLE
from data_pipeline.dataset import Dataset, Example
from data_pipeline.decoding.images import decode_image
from data_pipeline.errors import DataError
from data_pipeline.letterbox import letterbox_of, shrink

_logger = logging.getLogger(__name__)


class Picture(NamedTuple):
    """Pixels at load resolution, shrunk to fit the output size and never enlarged.

    Attributes:
      image: RGB image, read-only.
      scale: Px of `image` per px of the stored image, at most 1.
      extent: Height and width of the stored image in px of `image`. The shape of `image` is the rounded extent.
    """

    image: UInt8[np.ndarray, "h w 3"]
    scale: float
    extent: tuple[float, float]


def require_readable(dataset: Dataset) -> None:
    """Raise an error if images or annotations could not be read when a data set was built. Costs nothing otherwise.

    Raises:
      DataError: An image or annotation cannot be read. The message names the first.
    """
    if dataset.faults:
        more = f" ({len(dataset.faults) - 1} more such faults)" if len(dataset.faults) > 1 else ""
        raise DataError(f"{dataset.faults[0]}{more}")
    if dataset.summary.get(UNREADABLE):
        pictures = Pictures(dataset, (32, 32), 0)
        for index in range(len(dataset)):
            pictures.picture(index)


class Pictures:
    """Random access to the annotations and decoded pictures of a data set. Threads may share it.

    The first pictures that are read are kept until the budget is spent. Later ones are decoded at every access. The
    results do not depend on the budget. A pickled copy, as in a worker process, starts with an empty cache.

    Args:
      dataset: Data set to read.
      size: Height and width of the network's input, px. Pictures are shrunk to fit it.
      cache_bytes: Budget for pixels in memory, bytes. 0 keeps none.
      strict: Raise an error for an image that cannot be read. Otherwise it is named once and its picture is None.
    """

    def __init__(self, dataset: Dataset, size: tuple[int, int], cache_bytes: int, strict: bool = True) -> None:
        self.dataset = dataset
        self.size = size
        self.cache_bytes = cache_bytes
        self.strict = strict
        self._start_cache()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        names = ("dataset", "size", "cache_bytes", "strict")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    def annotations(self, index: int) -> Example:
        """Return the annotations of image `index`, in px of the stored image. Their `image` is empty."""
        return self.dataset.annotations(index)

    def picture(self, index: int) -> Picture | None:
        """Return the pixels of image `index`. None if it cannot be read and `strict` is False.

        Raises:
          DataError: The image cannot be read or decoded, or its size differs from the annotated one. If `strict` is
            False, this is an error only once more than half of all images have failed.
        """
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        try:
            picture = self._read(index)
        except DataError as error:
            if self.strict:
                raise
            if index not in self._unreadable:
                self._unreadable.add(index)
                _logger.warning("%s It is left out.", error)
            if 2 * len(self._unreadable) > len(self):
                raise DataError(
                    f"{self.dataset.name}/{self.dataset.split}: expected images, but {len(self._unreadable)} of "
                    f"{len(self)} cannot be read; each is named above. The last one: {error}"
                ) from error
            return None
        with self._lock:
            if index not in self._kept and self._bytes + picture.image.nbytes <= self.cache_bytes:
                self._kept[index] = picture
                self._bytes += picture.image.nbytes
        return picture

    def _start_cache(self) -> None:
        self._kept: dict[int, Picture] = {}
        self._unreadable: set[int] = set()
        self._bytes = 0
        self._lock = threading.Lock()

    def _read(self, index: int) -> Picture:
        if index in self.dataset.unreadable:
            raise DataError(self.dataset.unreadable[index])
        example = self._stored(index)
        image = decode_image(example.image, example.file_name)
        if image.shape[:2] != (example.height, example.width):
            raise DataError(
                f"{example.file_name}: expected {example.width} x {example.height} px (width x height) as annotated, "
                f"got {image.shape[1]} x {image.shape[0]}. Fix: correct the annotation, or restore the image."
            )
        scale = min(1.0, letterbox_of(example.height, example.width, self.size).scale)
        image = shrink(image, scale)
        image.flags.writeable = False
        return Picture(image, scale, (example.height * scale, example.width * scale))

    def _stored(self, index: int) -> Example:
        try:
            return self.dataset[index]
        except DataError:
            raise
        except (OSError, RuntimeError, TypeError, ValueError, LookupError) as error:  # ArrayRecord raises all of these
            images = self.dataset.images
            fix = "restore it in its source"
            if isinstance(images, ArrayRecordImages):
                fix = f"delete {images.built}, which is then built anew from the source"
            raise DataError(
                f"{self.dataset.file_names[index]}: expected an image in {self.dataset.name}/{self.dataset.split}, got "
                f"{type(error).__name__}: {error}. Fix: {fix}."
            ) from error
