"""Formats of detections on disk. Each is a context manager that yields the function that adds an image."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from ugs_jax.report.formats.coco import RESULTS, coco_files
from ugs_jax.report.formats.image_result import Add
from ugs_jax.report.formats.submission import submission_files
from ugs_jax.report.formats.table import csv_file
from ugs_jax.report.formats.yolo import yolo_files


class Format(NamedTuple):
    """A format of detections.

    Attributes:
      open: Context manager of an output folder, class names and category ids. It yields a function that takes an
        `ImageResult`.
      result: Name of the file or folder that it writes.
    """

    open: Callable[[Path, Sequence[str], Sequence[int]], AbstractContextManager[Add]]
    result: str


FORMATS = {
    "coco": Format(coco_files, RESULTS),
    "yolo": Format(lambda folder, classes, _: yolo_files(folder, classes), "yolo"),
    "csv": Format(csv_file, "predictions.csv"),
    "visdrone": Format(lambda folder, *_: submission_files(folder), "visdrone.zip"),
}
"""Formats by name."""
