"""Near-duplicates on HIT-UAV: changed copies that are found, and leaks of three ways to split the images.

    python -m experiments.benchmarks.near_duplicates FOLDER

FOLDER has images/, annotations/train.json and annotations/val.json. It takes two minutes on one core. The result is in
docs/data_check.md.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro

from data_pipeline import Dataset, Example, dataset_from_examples
from data_pipeline.check.duplicates import near_pairs
from data_pipeline.check.pixels import Fingerprints, fingerprints_of
from experiments.datasets.hit_uav_splits import by_sequence, joined, sequence_of

CHANGES: dict[str, Callable[[np.ndarray], Any]] = {
    "JPEG of quality 30": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "1.3 times the size": lambda image: cv2.resize(image, None, fx=1.3, fy=1.3),
    "20 grey levels brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.0, beta=20),
    "contrast times 0.8": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=0),
    "2 % cut off at two sides": lambda image: image[image.shape[0] // 50 :, image.shape[1] // 50 :],
    "mirrored": lambda image: image[:, ::-1],
}
"""Changes of an image, by name."""


def data_set(names: Iterable[str], images: Iterable[np.ndarray]) -> Dataset:
    """Return images without annotations as a data set of PNG files."""
    none, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    examples = [
        Example(cv2.imencode(".png", image)[1].tobytes(), none, labels, none, 0, name, *image.shape[:2])
        for name, image in zip(names, images, strict=True)
    ]
    return dataset_from_examples(examples, ["any"])


def chosen(prints: Fingerprints, indices: np.ndarray) -> Fingerprints:
    """Return the fingerprints of some images."""
    digest = tuple(prints.digest[index] for index in indices)
    return Fingerprints(digest, prints.gradients[indices], prints.thumbnail[indices], prints.contrast[indices], {})


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Print both tables.

    Args:
      folder: Folder of HIT-UAV.
    """
    days = [json.loads((folder / "annotations" / f"{split}.json").read_text()) for split in ("train", "val")]
    names = [[image["file_name"] for image in day["images"]] for day in days]
    listed = [*names[0], *names[1]]
    images = [cv2.imread(str(folder / "images" / name)) for name in listed]
    prints = fingerprints_of(data_set(listed, images))

    print(f"changed copies of {len(listed)} images that are found")
    for change, apply in CHANGES.items():
        copies = fingerprints_of(data_set(listed, map(apply, images)))
        every = [np.array([index]) for index in range(len(listed))]
        found = sum(bool(near_pairs(chosen(prints, one), chosen(copies, one))) for one in every)
        print(f"{change}: {100 * found / len(listed):.1f} %")

    position = {name: index for index, name in enumerate(listed)}
    sequences = [[image["file_name"] for image in side["images"]] for side in by_sequence(joined(*days))]
    splits = {"by day": names, "by sequence": sequences}
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(listed).tolist()
        cut = round(0.3 * len(order))
        splits[f"at random, seed {seed}"] = [order[cut:], order[:cut]]
    print("validation images with a near-duplicate among the training images")
    for split, (train, val) in splits.items():
        seen, new = (chosen(prints, np.array([position[name] for name in side])) for side in (train, val))
        pairs = near_pairs(seen, new)
        same = sum(sequence_of(val[index]) == sequence_of(train[other]) for index, (other, _) in pairs.items())
        print(f"{split}: {len(pairs)} of {len(val)}, {same} of them in the same sequence")


if __name__ == "__main__":
    tyro.cli(main)
