"""Images that occur twice: with equal pixels within a split, and equal or nearly equal in two splits."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_pipeline.check.pixels import Fingerprints
from data_pipeline.dataset import Dataset
from data_pipeline.faults import Fault

SAME_PIXELS = "images with the pixels of another image of their split"
MOST_BITS = 8
"""Most gradient bits in which near-duplicates differ, of 64."""
LEAST_CORRELATION = 0.95
"""Least correlation of the thumbnails of near-duplicates."""
_LEAST_SPREAD = 2.0  # grey levels. Thumbnails with a smaller standard deviation show nothing that could be compared.
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
    for index in np.flatnonzero(prints.readable).tolist():
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
        for index in np.flatnonzero(seen.readable).tolist():
            by_digest[seen.digest[index]].append(index)
        near = near_pairs(seen, new)
        for index in np.flatnonzero(new.readable).tolist():
            same = by_digest.get(new.digest[index])
            if same is None and index not in near:
                continue
            other, correlation = (same[0], 1.0) if same else near[index]
            names = (second.file_names[index], first.split, first.file_names[other])
            leaks.append(Leak(second.split, *names, round(correlation, 4), same is not None))
    return leaks


def near_pairs(seen: Fingerprints, new: Fingerprints) -> dict[int, tuple[int, float]]:
    """Return, for every image of `new` with near-duplicates in `seen`, the most similar one and their correlation.

    All pairs are compared by their gradient bits, a few million at once: about a second for 10^9 pairs.

    Args:
      seen: Fingerprints of one split.
      new: Fingerprints of another split.
    """
    old, (seen_usable, seen_units) = seen.gradients, _standardised(seen.thumbnail)
    new_usable, new_units = _standardised(new.thumbnail)
    candidates = np.flatnonzero(seen_usable & seen.readable)
    rows = np.flatnonzero(new_usable & new.readable)
    step = max(1, _BLOCK // max(1, len(candidates)))
    found: dict[int, tuple[int, float]] = {}
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        apart = np.bitwise_count(new.gradients[block, None] ^ old[candidates][None])
        i, j = np.nonzero(apart <= MOST_BITS)
        for at, (row, column) in enumerate(zip(block[i].tolist(), candidates[j].tolist(), strict=True)):
            del at
            correlation = float(new_units[row] @ seen_units[column])
            if correlation >= LEAST_CORRELATION and correlation > found.get(row, (0, 0.0))[1]:
                found[row] = (column, correlation)
    return found


def _standardised(
    thumbnail: UInt8[np.ndarray, "n 32 32"],
) -> tuple[Bool[np.ndarray, "n"], Float[np.ndarray, "n 1024"]]:
    """Return the mask of the thumbnails with contrast, and all thumbnails with mean 0 and norm 1."""
    pixels = thumbnail.reshape(len(thumbnail), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    spread = pixels.std(axis=1)
    return spread >= _LEAST_SPREAD, pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)


def _same_annotations(dataset: Dataset, first: int, second: int) -> bool:
    a, b = (_rows(dataset, index) for index in (first, second))
    return a.shape == b.shape and bool((a == b).all())


def _rows(dataset: Dataset, index: int) -> Float[np.ndarray, "n 5"] | Int[np.ndarray, "n 5"]:
    example = dataset.annotations(index)
    rows = np.concatenate([example.classes[:, None].astype(np.float64), example.boxes.astype(np.float64)], axis=1)
    return rows[np.lexsort(rows.T)]
