"""Pictures of the images with the most errors, as JPEG files beside the diagnosis of a run."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipeline import DataError, Dataset
from data_pipeline.pictures import Pictures
from ugs_jax.atomic import write_atomically
from ugs_jax.report.diagnosis import Diagnosis, WorstImage
from ugs_jax.report.pictures import draw_outcomes
from ugs_jax.report.run_log import RunError

_LARGEST = (1280, 1280)  # px


def worst_files(folder: Path, name: str, diagnosis: Diagnosis) -> list[Path | None]:
    """Return the picture of each worst image; None for images without one.

    Args:
      folder: Run folder.
      name: Name of the evaluation, such as `best`.
      diagnosis: Diagnosis of this evaluation.
    """
    place = folder / f"worst_{name}"
    files = [place / f"{worst.image}.jpg" for worst in diagnosis.worst]
    return [None if place.is_symlink() or file.is_symlink() or not file.is_file() else file for file in files]


def write_worst_images(folder: Path, name: str, diagnosis: Diagnosis, dataset: Dataset) -> None:
    """Draw the images with the most errors into `worst_<name>` of a run folder, and delete earlier pictures.

    Images that cannot be read are left out.

    Args:
      folder: Run folder.
      name: Name of the evaluation, such as `best`.
      diagnosis: Diagnosis on `dataset`.
      dataset: Images of the diagnosis.

    Raises:
      RunError: `worst_<name>` is a link, so that files outside the run folder would be replaced.
    """
    place = folder / f"worst_{name}"
    if place.is_symlink():
        raise RunError(f"{place}: expected a folder, found a link; delete it")
    pictures, written = Pictures(dataset, _LARGEST, cache_bytes=0), set()
    for worst in diagnosis.worst:
        if worst.outcomes and (drawn := _drawn(pictures, worst)) is not None:
            file = place / f"{worst.image}.jpg"
            write_atomically(file, _jpeg(drawn))
            written.add(file)
    for file in place.glob("[0-9]*.jpg"):
        if file not in written:
            file.unlink()


def _drawn(pictures: Pictures, worst: WorstImage) -> UInt8[np.ndarray, "height width 3"] | None:
    try:
        picture = pictures.picture(worst.image)
    except DataError:
        return None
    if picture is None:
        return None
    scale = picture.scale
    outcomes = [each._replace(box=_scaled(each.box, scale)) for each in worst.outcomes]
    return draw_outcomes(picture.image, outcomes, scale * pictures.annotations(worst.image).ignore)


def _scaled(box: tuple[float, float, float, float], scale: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return scale * left, scale * top, scale * right, scale * bottom


def _jpeg(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
