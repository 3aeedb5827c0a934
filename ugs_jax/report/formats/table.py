"""A table of all boxes in CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ugs_jax.atomic import replacing
from ugs_jax.report.formats.image_result import Add, ImageResult

FILE = "predictions.csv"
"""Name of the table."""

COLUMNS = (
    *("file", "frame", "time", "image_width", "image_height", "class", "category_id", "score"),
    *("x", "y", "width", "height", "deviation_x1", "deviation_y1", "deviation_x2", "deviation_y2"),
)
"""Names of the columns. `frame` and `time` are empty for images, and deviations where none are predicted."""


@contextmanager
def csv_file(folder: Path, classes: Sequence[str], category_ids: Sequence[int]) -> Iterator[Add]:
    """Open `predictions.csv`, and yield the function that adds the boxes of an image to it.

    Args:
      folder: Output folder.
      classes: Class names.
      category_ids: Category id of each class.
    """
    with replacing(folder / FILE) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)

        def add(image: ImageResult) -> None:
            place = ("", "") if image.frame is None else (image.frame.number, f"{image.frame.seconds:.4f}")
            found = image.detections
            for index, box in enumerate(image.xywh.tolist()):
                label = int(found.classes[index])
                sides = [""] * 4 if found.deviation is None else [f"{side:.3f}" for side in found.deviation[index]]
                table.writerow(
                    (
                        *(image.file_name, *place, image.width, image.height, classes[label], category_ids[label]),
                        *(f"{found.scores[index]:.6f}", *(f"{side:.3f}" for side in box), *sides),
                    )
                )

        try:
            yield add
        finally:
            text.detach()  # writes what is buffered
