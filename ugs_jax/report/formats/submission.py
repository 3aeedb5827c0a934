"""VisDrone's submission format: a text file for each image, and a zip archive of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation import coco_rows
from ugs_jax.evaluation.submission import pack_submission, submission_text
from ugs_jax.report.formats.image_result import Add, ImageResult, Names

FOLDER = "visdrone"
"""Name of the folder of text files. The archive has the same name with `.zip`."""


@contextmanager
def submission_files(folder: Path) -> Iterator[Add]:
    """Yield the function that writes the text file of an image to a folder. At the end the files are packed.

    Categories are class index + 1, as the format has them.
    """
    unique, names = Names(), list[str]()

    def add(image: ImageResult) -> None:
        names.append(unique.unused(image.name.replace("/", "_")))
        text = submission_text(coco_rows(len(names) - 1, image.detections))
        write_atomically(folder / FOLDER / f"{names[-1]}.txt", text.encode())

    yield add
    pack_submission(folder / FOLDER, names)
