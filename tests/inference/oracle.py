"""A detector that knows the objects of an image, and returns the visible part of each in any crop."""

import numpy as np

from data_pipeline.letterbox import letterbox_of
from ugs_jax.detectors import Detections


def position_image(height, width):
    """Pixels that say where they are: x and y in 12 bits each."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, x // 256 + 16 * (y // 256)], -1).astype(np.uint8)


def position(pixel):
    r, g, b = (int(value) for value in pixel)
    return r + 256 * (b % 16), g + 256 * (b // 16)


def shaded_image(height, width):
    """Red grows with x and green with y, evenly, so that a reduced window still says where it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, np.zeros(x.shape)], -1).astype(np.uint8)


class Counting:
    """An image that notes the largest window read of it."""

    def __init__(self, image):
        self.image, self.shape, self.dtype, self.largest = image, image.shape, image.dtype, (0, 0)

    def __getitem__(self, index):
        part = self.image[index]
        self.largest = tuple(max(pair) for pair in zip(self.largest, part.shape[:2], strict=True))
        return part


class ScaledOracle:
    """Knows the objects of a `shaded_image`, whatever windows it is shown and at whatever scale, mirrored or not."""

    def __init__(self, image, boxes, labels, windows):
        self.extent, self.boxes, self.labels = np.array(image.shape[1::-1]), np.asarray(boxes, float), labels
        self.windows, self.sizes = windows, set()

    def __call__(self, images):
        self.sizes.add(images.shape[1:3])
        rows = [self._row(each.astype(float)) for each in images]
        return Detections(*(np.stack(part) for part in zip(*rows, strict=True)))

    def _row(self, shown):
        n, size = len(self.labels), np.array(shown.shape[1::-1])
        row, column = size[1] // 2, size[0] // 2
        flip = shown[row, column + 20, 0] < shown[row, column - 20, 0]
        middle = shown[row, column, :2] / 255 * self.extent
        gaps = [np.abs(middle - (w.left + w.width / 2, w.top + w.height / 2)).max() for w in self.windows]
        window = self.windows[int(np.argmin(gaps))]
        box = letterbox_of(window.height, window.width, shown.shape[:2])
        scale, pad = box.scale, np.tile([box.pad_x, box.pad_y], 2)
        origin, end = np.array([window.left, window.top]), np.array([window.width, window.height])
        low, high = np.maximum(self.boxes[:, :2] - origin, 0), np.minimum(self.boxes[:, 2:] - origin, end)
        seen = np.all(high > low, axis=1) & (min(gaps) < 8)  # a row of grey is no window
        local = np.concatenate([low, high], 1) * scale + pad
        if flip:
            local = np.stack([size[0] - local[:, 2], local[:, 1], size[0] - local[:, 0], local[:, 3]], 1)
        return local.astype(np.float32), np.full(n, 0.9), self.labels, seen, np.full((n, 4), 2.0 * scale)


class Oracle:
    """Shown a batch of tiles, or of the whole image letterboxed, mirrored or not.

    Rows of the batch that are all grey are padding: there it makes up a detection, which nobody should see.
    """

    def __init__(self, image, boxes, labels, tile, seed=0):
        self.image, self.boxes, self.labels, self.tile = image, np.asarray(boxes, float), np.asarray(labels), tile
        self.rng = np.random.default_rng(seed)
        self.scores = self.rng.uniform(0.4, 0.6, len(labels))
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        rows = [self._row(each) for each in images]
        return Detections(*(np.stack(part) for part in zip(*rows, strict=True)))

    def _row(self, shown):
        n, size = len(self.labels), np.array(shown.shape[1::-1])
        if (shown == 114).all():
            return np.full((n, 4), 5.0), np.ones(n), np.zeros(n, int), np.ones(n, bool), np.ones((n, 4))
        if tuple(shown.shape[:2]) == self.tile:
            first, last = position(shown[0, 0]), position(shown[0, -1])
            flip, origin, scale = last < first, np.array(min(first, last)), 1.0
            visible = np.minimum(origin + size, self.image.shape[1::-1])
        else:
            box = letterbox_of(*self.image.shape[:2], shown.shape[:2])
            flip, scale = False, box.scale
            origin, visible = -np.array([box.pad_x, box.pad_y]) / scale, np.array(self.image.shape[1::-1])
        low = np.maximum(self.boxes[:, :2], np.maximum(origin, 0))
        high = np.minimum(self.boxes[:, 2:], visible)
        seen = np.all(high > low, axis=1)
        whole = np.all(low == self.boxes[:, :2], 1) & np.all(high == self.boxes[:, 2:], 1)
        local = (np.concatenate([low, high], 1) - np.tile(origin, 2)) * scale
        if flip:
            local = np.stack([size[0] - local[:, 2], local[:, 1], size[0] - local[:, 0], local[:, 3]], 1)
        scores = np.where(whole, self.scores, self.scores * self.rng.uniform(0.3, 1.6, n))  # parts may score more
        deviation = np.tile([1.0, 2.0, 3.0, 4.0], (n, 1))[:, [2, 1, 0, 3] if flip else [0, 1, 2, 3]] * scale
        return local.astype(np.float32), scores, self.labels, seen, deviation
