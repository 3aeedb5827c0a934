"""Orders of training samples: the image of each sample, and the images from which its mosaic is filled."""

import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from data_pipeline.augment.mosaic import ImageDraw

_KEPT = 2


class Order(ABC):
    """Order of the samples of every epoch, determined by the epoch. Threads may share it.

    The last two epochs stay in memory. A pickled copy starts without them.

    Args:
      length: Number of samples in an epoch.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._start_cache()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_epochs", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    @abstractmethod
    def __getitem__(self, sample: int) -> int:
        """Return the image of a sample, counted from the start of the first epoch."""

    @abstractmethod
    def others(self, sample: int) -> ImageDraw:
        """Return the choice of the other images of a sample's mosaic."""

    @abstractmethod
    def draw_epoch(self, epoch: int) -> np.ndarray:
        """Return the draws of an epoch, one row for each sample."""

    def draw(self, sample: int) -> tuple[np.ndarray, int]:
        """Return the draws of a sample's epoch, and the place of the sample in it."""
        epoch, place = divmod(sample, self.length)
        with self._lock:
            if epoch not in self._epochs:
                if len(self._epochs) == _KEPT:
                    del self._epochs[min(self._epochs)]
                self._epochs[epoch] = self.draw_epoch(epoch)
            return self._epochs[epoch], place

    def _start_cache(self) -> None:
        self._epochs: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
