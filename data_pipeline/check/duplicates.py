"""Images that occur twice: with equal pixels within a split, and equal or nearly equal in two splits."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.check.pixels import Fingerprints
from data_pipeline.dataset import Dataset
from data_pipeline.faults import Fault

SAME_PIXELS = "images with the pixels of another image of their split"
MOST_BITS = 8
"""Most gradient bits in which near-duplicates differ, of 64."""
LEAST_CORRELATION = 0.95
"""Least correlation of the thumbnails of near-duplicates."""
_LEAST_CONTRAST = 2.0  # grey levels; thumbnails below it show nothing that could be compared
_BLOCK = 1 << 22  # pairs that are compared at once


class Leak(NamedTuple):
    """An image that is also in another split.

    Attributes:
      split: Split of the image, the later of the two.
      image: File name of the image.
      other_split: The earlier split.
      other_image: File name of the most similar image there.
      correlation: Correlation of the two thumbnails; 1 for equal pixels.
      same_pixels: True if all pixels are equal.
    """

    split: str
    image: str
    other_split: str
    other_image: str
    correlation: float
    same_pixels: bool


def repeated_images(dataset: Dataset, prints: Fingerprints) -> list[Fault]:
    """Return a fault for every image whose pixels an earlier image of the split has, under any name and id.

    Args:
      dataset: Data set.
      prints: Fingerprints of its images.
    """
    first: dict[bytes, int] = {}
    faults = []
    for index in _readable(prints):
        other = first.setdefault(prints.digest[index], index)
        if other != index:
            annotations = "equal" if _same_annotations(dataset, other, index) else "different"
            place = f"same as {dataset.file_names[other]} (id {dataset.source_ids[other]}), {annotations} annotations"
            faults.append(Fault(dataset.file_names[index], place, SAME_PIXELS))
    return faults


def leaks_between(datasets: Sequence[Dataset], prints: Sequence[Fingerprints]) -> list[Leak]:
    """Return the images that an earlier split has too, equal or nearly equal, each with its most similar image.

    Two images are nearly equal if at most `MOST_BITS` of their 64 gradient bits differ and their thumbnails correlate
    by at least `LEAST_CORRELATION`. Images without contrast are compared by their pixels only.

    Args:
      datasets: Splits, the training split first.
      prints: Fingerprints of each split.
    """
    leaks = []
    for (first, seen), (second, new) in combinations(list(zip(datasets, prints, strict=True)), 2):
        by_digest: dict[bytes, list[int]] = defaultdict(list)
        for index in _readable(seen):
            by_digest[seen.digest[index]].append(index)
        near = near_pairs(seen, new)
        for index in _readable(new):
            same = by_digest.get(new.digest[index])
            if same is None and index not in near:
                continue
            other, correlation = (same[0], 1.0) if same else near[index]
            names = (second.file_names[index], first.split, first.file_names[other])
            leaks.append(Leak(second.split, *names, round(correlation, 4), same is not None))
    return leaks


def near_pairs(seen: Fingerprints, new: Fingerprints) -> dict[int, tuple[int, float]]:
    """Return, for every image of `new` with near-duplicates in `seen`, the most similar one and their correlation.

    All pairs are compared by their gradient bits, in blocks of a few million pairs.

    Args:
      seen: Fingerprints of one split.
      new: Fingerprints of another split.
    """
    columns, rows = (np.flatnonzero(prints.contrast >= _LEAST_CONTRAST) for prints in (seen, new))
    step = max(1, _BLOCK // max(1, len(columns)))
    found: dict[int, tuple[int, float]] = {}
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        near = np.bitwise_count(new.gradients[block, None] ^ seen.gradients[columns]) <= MOST_BITS
        for row, mask in zip(block[near.any(axis=1)].tolist(), near[near.any(axis=1)], strict=True):
            candidates = columns[mask]
            correlation = _unit(seen.thumbnail[candidates]) @ _unit(new.thumbnail[row])
            best = int(correlation.argmax())
            if correlation[best] >= LEAST_CORRELATION:
                found[row] = (int(candidates[best]), float(correlation[best]))
    return found


def _readable(prints: Fingerprints) -> list[int]:
    return [index for index, digest in enumerate(prints.digest) if digest]


def _unit(thumbnail: UInt8[np.ndarray, "*n 32 32"]) -> Float[np.ndarray, "*n 1024"]:
    """Return thumbnails with contrast as vectors of mean 0 and norm 1."""
    pixels = thumbnail.reshape(*thumbnail.shape[:-2], -1).astype(np.float32)
    pixels -= pixels.mean(axis=-1, keepdims=True)
    unit: np.ndarray = pixels / np.linalg.norm(pixels, axis=-1, keepdims=True)
    return unit


def _same_annotations(dataset: Dataset, first: int, second: int) -> bool:
    return np.array_equal(_rows(dataset, first), _rows(dataset, second))


def _rows(dataset: Dataset, index: int) -> Float[np.ndarray, "n 5"]:
    example = dataset.annotations(index)
    rows = np.concatenate([example.classes[:, None], example.boxes], axis=1, dtype=np.float64)
    ordered: np.ndarray = rows[np.lexsort(rows.T)]
    return ordered
