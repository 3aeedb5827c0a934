"""Pictures of the images with the most errors, as JPEG files beside the diagnosis of a run."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipeline import DataError, Dataset
from data_pipeline.decoding.images import decode_image
from ugs_jax.atomic import write_atomically
from ugs_jax.report.diagnosis import Diagnosis
from ugs_jax.report.pictures import draw_outcomes


def worst_files(folder: Path, name: str, diagnosis: Diagnosis) -> list[Path | None]:
    """Return the picture of each worst image; None for images without one.

    Args:
      folder: Run folder.
      name: Name of the evaluation, such as `best`.
      diagnosis: Diagnosis of this evaluation.
    """
    files = [folder / f"worst_{name}" / f"{worst.image}.jpg" for worst in diagnosis.worst]
    return [file if file.is_file() else None for file in files]


def write_worst_images(folder: Path, name: str, diagnosis: Diagnosis, dataset: Dataset) -> None:
    """Draw the images with the most errors into `worst_<name>` of a run folder, and delete earlier pictures.

    Images that cannot be read are left out.

    Args:
      folder: Run folder.
      name: Name of the evaluation, such as `best`.
      diagnosis: Diagnosis on `dataset`.
      dataset: Images of the diagnosis.
    """
    place, written = folder / f"worst_{name}", set()
    for worst in diagnosis.worst:
        if not worst.outcomes:
            continue
        try:
            if worst.image in dataset.unreadable:
                continue
            example = dataset[worst.image]
            pixels = decode_image(example.image, example.file_name)
        except DataError:
            continue
        file = place / f"{worst.image}.jpg"
        write_atomically(file, _jpeg(draw_outcomes(pixels, worst.outcomes, example.ignore)))
        written.add(file)
    for file in place.glob("*.jpg") if place.is_dir() else ():
        if file not in written:
            file.unlink()


def _jpeg(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
