"""Decoded images at load resolution, kept in memory up to a byte budget."""

import threading
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from data_pipeline.dataset import Dataset, Example
from data_pipeline.errors import DataError
from data_pipeline.images import decode_image
from data_pipeline.letterbox import letterbox_of, shrink


class Picture(NamedTuple):
    """Pixels at load resolution: shrunk to fit the output size, never enlarged.

    Attributes:
      image: RGB, read-only.
      scale: px of `image` per px of the stored image, at most 1.
      extent: height and width of the stored image in px of `image`; the shape of `image` is this rounded.
    """

    image: UInt8[np.ndarray, "h w 3"]
    scale: float
    extent: tuple[float, float]


class Pictures:
    """Random access to annotations and to decoded pictures of a data set; threads may share it.

    The first pictures read are kept until the budget is spent; later ones are decoded every time. What comes out does
    not depend on the budget. A pickled copy, as in a worker process, starts with nothing kept.

    Args:
      dataset: where to read.
      size: height and width of the network's input, px; pictures are shrunk to fit it.
      cache_bytes: budget for kept pixels; 0 keeps nothing.
    """

    def __init__(self, dataset: Dataset, size: tuple[int, int], cache_bytes: int) -> None:
        self.dataset = dataset
        self.size = size
        self.cache_bytes = cache_bytes
        self._start_cache()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "size": self.size, "cache_bytes": self.cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    def annotations(self, index: int) -> Example:
        """Annotations of image `index`, in px of the stored image; `image` is empty."""
        return self.dataset.annotations(index)

    def picture(self, index: int) -> Picture:
        """Pixels of image `index`.

        Raises:
          DataError: the image cannot be decoded, or its size is not the annotated one.
        """
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        picture = self._read(index)
        with self._lock:
            if index not in self._kept and self._bytes + picture.image.nbytes <= self.cache_bytes:
                self._kept[index] = picture
                self._bytes += picture.image.nbytes
        return picture

    def _start_cache(self) -> None:
        self._kept: dict[int, Picture] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def _read(self, index: int) -> Picture:
        example = self.dataset[index]
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
