"""Write additional splits of HIT-UAV: by sequence, and with a training set of a hundred images.

    python -m experiments.datasets.hit_uav_splits FOLDER

FOLDER/annotations holds train.json and val.json in COCO format, split by the day of capture. The script writes

- train_by_sequence.json, val_by_sequence.json: both days mixed. All images of a sequence (the file name without its
  number: hour, altitude, angle and weather) are in the same split. Sequences are sorted by a hash of their names and
  moved to the validation split until it has 30 % of the images.
- train_100.json: a hundred evenly spaced images of train.json, sorted by a hash of their names, to study fine-tuning on
  few images. Its validation split is val.json.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tyro

Coco = dict[str, Any]
VALIDATION_SHARE = 0.3
FEW = 100


def sequence_of(file_name: str) -> str:
    """Return the sequence that an image belongs to: its file name without folder and number."""
    return Path(file_name).stem.rpartition("_")[0]


def by_sequence(coco: Coco, share: float = VALIDATION_SHARE) -> tuple[Coco, Coco]:
    """Return the training and the validation split of a data set. No sequence is in both.

    Args:
      coco: Annotations in COCO format.
      share: Least share of the images in the validation split.
    """
    images = coco["images"]
    held: set[str] = set()
    counted = 0
    for sequence in _hashed({sequence_of(image["file_name"]) for image in images}):
        if counted >= share * len(images):
            break
        held.add(sequence)
        counted += sum(sequence_of(image["file_name"]) == sequence for image in images)
    validation = [image["id"] for image in images if sequence_of(image["file_name"]) in held]
    training = [image["id"] for image in images if sequence_of(image["file_name"]) not in held]
    return subset(coco, training), subset(coco, validation)


def few(coco: Coco, count: int = FEW) -> Coco:
    """Return a data set of `count` images. The choice does not depend on the order of the images."""
    names = _hashed(image["file_name"] for image in coco["images"])
    chosen = {names[i * len(names) // count] for i in range(count)}
    return subset(coco, [image["id"] for image in coco["images"] if image["file_name"] in chosen])


def subset(coco: Coco, image_ids: Iterable[int]) -> Coco:
    """Return the images with given ids and their annotations; everything else is unchanged."""
    kept = set(image_ids)
    images = [image for image in coco["images"] if image["id"] in kept]
    annotations = [row for row in coco["annotations"] if row["image_id"] in kept]
    return {**coco, "images": images, "annotations": annotations}


def joined(first: Coco, second: Coco) -> Coco:
    """Return two data sets with the same categories as one, with new ids.

    Raises:
      ValueError: The categories differ, or an image is in both.
    """
    if first["categories"] != second["categories"]:
        raise ValueError("expected two splits with the same categories, got different ones; split one data set only")
    names = [image["file_name"] for part in (first, second) for image in part["images"]]
    if len(set(names)) < len(names):
        raise ValueError(f"expected two splits without a common image, got {len(names) - len(set(names))} in both")
    images: list[Any] = []
    annotations: list[Any] = []
    for part in (first, second):
        ids = {image["id"]: len(images) + i for i, image in enumerate(part["images"], 1)}
        images += [{**image, "id": ids[image["id"]]} for image in part["images"]]
        rows = [{**row, "image_id": ids[row["image_id"]]} for row in part["annotations"]]
        annotations += [{**row, "id": len(annotations) + i} for i, row in enumerate(rows, 1)]
    return {**first, "images": images, "annotations": annotations}


def _hashed(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def main(folder: tyro.conf.Positional[Path], output: Path | None = None) -> None:
    """Write the splits.

    Args:
      folder: Folder with annotations/train.json and annotations/val.json.
      output: Folder for the splits; FOLDER/annotations by default.
    """
    train, val = (json.loads((folder / "annotations" / f"{split}.json").read_text()) for split in ("train", "val"))
    training, validation = by_sequence(joined(train, val))
    splits = {"train_by_sequence": training, "val_by_sequence": validation, "train_100": few(train)}
    target = output or folder / "annotations"
    target.mkdir(parents=True, exist_ok=True)
    for name, coco in splits.items():
        (target / f"{name}.json").write_text(json.dumps(coco))
        print(f"{target / name}.json: {len(coco['images'])} images, {len(coco['annotations'])} annotations")


if __name__ == "__main__":
    tyro.cli(main)
