"""One pass over the pixels of a data set: what is needed to find images that occur twice."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt64

from data_pipeline.dataset import Dataset
from data_pipeline.errors import DataError
from data_pipeline.pictures import read_whole

SIDE = 32
"""Side of the thumbnails, px."""


class Fingerprints(NamedTuple):
    """Fingerprints of all images of a split. Images that cannot be read have zeros.

    Attributes:
      digest: Hash of the decoded pixels. Files of different formats or names have the same digest if their pixels are
        equal.
      gradients: 64 bits, each of which says if the brightness rises from one cell to the next in an 8 × 9 thumbnail
        ("dHash").
      thumbnail: Grey thumbnail of 32 × 32 px.
      contrast: Standard deviation of the thumbnail, grey levels.
      errors: Error messages of these images, by index.
    """

    digest: tuple[bytes, ...]
    gradients: UInt64[np.ndarray, "images"]
    thumbnail: UInt8[np.ndarray, "images 32 32"]
    contrast: Float[np.ndarray, "images"]
    errors: dict[int, str]


def fingerprints_of(
    dataset: Dataset, *, threads: int = 2, on_image: Callable[[], object] = lambda: None
) -> Fingerprints:
    """Decode every image once and return its fingerprints.

    Args:
      dataset: Data set to read.
      threads: Number of decoding threads.
      on_image: Function that is called after every image, for example to show progress.
    """
    digests: list[bytes] = []
    gradients = np.zeros(len(dataset), np.uint64)
    thumbnails = np.zeros((len(dataset), SIDE, SIDE), np.uint8)
    contrast = np.zeros(len(dataset), np.float32)
    errors: dict[int, str] = {}
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for index, found in enumerate(pool.map(partial(_fingerprint, dataset), range(len(dataset)))):
            if isinstance(found, str):
                errors[index] = found
                digests.append(b"")
            else:
                digest, gradients[index], thumbnails[index] = found
                contrast[index] = thumbnails[index].std()
                digests.append(digest)
            on_image()
    return Fingerprints(tuple(digests), gradients, thumbnails, contrast, errors)


def _fingerprint(dataset: Dataset, index: int) -> tuple[bytes, np.uint64, np.ndarray] | str:
    try:
        image = read_whole(dataset, index)
    except DataError as error:
        return str(error)
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return digest.digest(), gradient_bits(grey), cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def gradient_bits(grey: UInt8[np.ndarray, "h w"]) -> np.uint64:
    """Return the difference hash ("dHash") of a grey image: the signs of 8 × 8 horizontal differences of cell means."""
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits: np.uint64 = np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)[0]
    return bits
