"""YOLO's format: a text file for each image, with a row for each box."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ugs_jax.atomic import write_atomically
from ugs_jax.report.formats.image_result import Add, ImageResult

FOLDER = "yolo"
"""Name of the folder of all files of this format."""


@contextmanager
def yolo_files(folder: Path, classes: Sequence[str]) -> Iterator[Add]:
    """Yield the function that writes the label file of an image. At the end the class names are written.

    Args:
      folder: Output folder.
      classes: Class names. This format has their indices, not category ids.
    """

    def add(image: ImageResult) -> None:
        file = folder / FOLDER / "labels" / f"{image.name}.txt"
        if rows := _rows(image):
            write_atomically(file, "".join(f"{row}\n" for row in rows).encode())
        else:
            file.unlink(missing_ok=True)  # of an earlier call, with other options

    yield add
    names = "".join(f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(classes))
    write_atomically(folder / FOLDER / "data.yaml", f"nc: {len(classes)}\nnames:\n{names}".encode())
    write_atomically(folder / FOLDER / "obj.names", "".join(f"{name}\n" for name in classes).encode())


def _rows(image: ImageResult) -> list[str]:
    """Return class index, centre, width and height as shares of the image, and score of each box inside the image."""
    size = np.array([image.width, image.height] * 2, np.float64)
    corners = np.clip(image.detections.boxes.astype(np.float64) / size, 0, 1)
    centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    rows = np.concatenate([centres, sides, image.detections.scores[:, None]], axis=1)
    return [
        f"{label} {' '.join(f'{value:g}' for value in row)}"
        for label, row, inside in zip(image.detections.classes, rows, np.all(sides > 0, axis=1).tolist(), strict=True)
        if inside
    ]
