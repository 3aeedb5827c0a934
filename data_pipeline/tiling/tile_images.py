"""Pixels of tiles, cut from decoded images on demand. The last images stay decoded."""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from data_pipeline.dataset import Dataset
from data_pipeline.order import Order
from data_pipeline.tiling.tile_order import TileOrder
from data_pipeline.tiling.windows import Window, read_window

_CACHE_BYTES = 2**28
_FEWEST = 2  # images that stay decoded however large they are, so that two threads do not evict each other's image


class TileImages:
    """Random access to the tiles of a data set's images. Threads may share it.

    An image is decoded when a tile of it is read. The images that were read last stay decoded, up to a budget, so that
    tiles that are read in order cost one decoding per image. A pickled copy starts without decoded images.

    Args:
      dataset: Data set of whole images.
      image: Index of each tile's image.
      windows: Top, left, height and width of each tile, px of its image.
      cache_bytes: Budget for decoded images, bytes. The last two images are kept even if they exceed it.
    """

    def __init__(
        self,
        dataset: Dataset,
        image: Int32[np.ndarray, " tiles"],
        windows: Int32[np.ndarray, "tiles 4"],
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self.dataset = dataset
        self.image = image
        self.windows = windows
        self.cache_bytes = cache_bytes
        self._start_cache()

    def pixels(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels of tile `index`, grey (114) outside the image.

        Raises:
          DataError: The image of the tile cannot be read.
        """
        window, image = Window(*self.windows[index].tolist()), self._decoded(int(self.image[index]))
        part = read_window(image, window)
        return part if part.shape == image.shape else part.copy()  # a view would keep the whole image in memory

    def __getitem__(self, index: int, /) -> bytes:
        """Return tile `index` as a PNG file."""
        written = cv2.cvtColor(self.pixels(index), cv2.COLOR_RGB2BGR)
        return cv2.imencode(".png", written, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()

    def order(self, seed: int) -> Order | None:
        """Return an order for training in which each image is decoded once per epoch; None if any order is as good."""
        return TileOrder(self.image, 3 * self.dataset.table.sizes.astype(np.int64).prod(axis=1), self.cache_bytes, seed)

    @property
    def built(self) -> Any:
        """Cache folder of the whole images. None if they have none."""
        return getattr(self.dataset.images, "built", None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("dataset", "image", "windows", "cache_bytes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    def _start_cache(self) -> None:
        self._recent: OrderedDict[int, Future[np.ndarray]] = OrderedDict()  # the image that was read last comes last
        self._lock = threading.Lock()

    def _decoded(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        with self._lock:
            known = image in self._recent
            future = self._recent.setdefault(image, Future())
            self._recent.move_to_end(image)
        if known:  # decoded before, or just now by another thread
            return future.result()
        try:
            pixels = self.dataset.pixels(image)
        except BaseException as error:
            with self._lock:
                del self._recent[image]
            future.set_exception(error)
            raise
        pixels.flags.writeable = False
        future.set_result(pixels)
        with self._lock:
            self._forget()
        return pixels

    def _forget(self) -> None:
        """Drop the images that were read longest ago until the others fit the budget."""
        done = {image: each.result().nbytes for image, each in self._recent.items() if each.done()}
        total = sum(done.values())
        for image in list(done)[:-_FEWEST]:
            if total <= self.cache_bytes:
                return
            total -= done[image]
            del self._recent[image]
