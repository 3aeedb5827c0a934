"""COCO's formats: a list of results for scoring, and a data set of the same boxes for other programs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ugs_jax.atomic import replacing
from ugs_jax.report.formats.image_result import Add, ImageResult

RESULTS = "predictions.json"
"""Name of the list of results."""

DATASET = "dataset.json"
"""Name of the data set."""


@contextmanager
def coco_files(folder: Path, classes: Sequence[str], category_ids: Sequence[int]) -> Iterator[Add]:
    """Open `predictions.json` and `dataset.json`, and yield the function that adds an image to them.

    Args:
      folder: Output folder.
      classes: Class names.
      category_ids: Category id of each class.
    """
    images: list[dict[str, Any]] = []
    with replacing(folder / RESULTS) as results, replacing(folder / DATASET) as dataset:
        written = 0
        dataset.write(b'{\n"info": {"description": "Detections of ugs predict, not annotations of people"},\n')
        dataset.write(b'"annotations": [')

        def add(image: ImageResult) -> None:
            nonlocal written
            images.append(_image_entry(len(images) + 1, image))
            for row in _rows(image, classes, category_ids):
                _write(results, written, {"image_id": image.image_id, "file_name": image.file_name, **row})
                extra = {"area": round(row["bbox"][2] * row["bbox"][3], 3), "iscrowd": 0}
                _write(dataset, written, {"id": written + 1, "image_id": len(images), **row, **extra})
                written += 1

        results.write(b"[")
        yield add
        results.write(b"\n]\n")
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in zip(category_ids, classes, strict=True)
        ]
        dataset.write(b'\n],\n"images": [')
        for index, entry in enumerate(images):
            _write(dataset, index, entry)
        dataset.write(b'\n],\n"categories": [')
        for index, entry in enumerate(categories):
            _write(dataset, index, entry)
        dataset.write(b"\n]\n}\n")


def _image_entry(number: int, image: ImageResult) -> dict[str, Any]:
    entry = {"id": number, "file_name": image.image_file_name, "width": image.width, "height": image.height}
    if image.frame is not None:
        entry |= {"video": image.file_name, "frame": image.frame.number, "time": round(image.frame.seconds, 4)}
    return entry | ({"picture": image.picture} if image.picture else {})


def _rows(image: ImageResult, classes: Sequence[str], category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    found = image.detections
    for index, box in enumerate(image.xywh.tolist()):
        label = int(found.classes[index])
        row: dict[str, Any] = {
            "category_id": category_ids[label],
            "class": classes[label],
            "bbox": [round(side, 3) for side in box],
            "score": round(float(found.scores[index]), 6),
        }
        if found.deviation is not None:
            row["deviation"] = [round(float(side), 3) for side in found.deviation[index]]
        if image.frame is not None:
            row |= {"frame": image.frame.number, "time": round(image.frame.seconds, 4)}
        yield row


def _write(stream: BinaryIO, index: int, entry: dict[str, Any]) -> None:
    """Write an entry of a list on a line of its own."""
    stream.write((",\n" if index else "\n").encode() + json.dumps(entry, ensure_ascii=False).encode())
