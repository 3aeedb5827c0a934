"""Results in VisDrone's submission format: one text file for each image, in a folder or a zip archive."""

import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_pipeline import DataError
from data_pipeline.sources.find_files import is_leftover
from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation.visdrone import FoundImage

_COLUMNS = ("left", "top", "width", "height", "score", "category", "truncation", "occlusion")
_NOTHING = "0,0,1,1,0,1,-1,-1\n"
_LARGEST = 1 << 29  # bytes of text; 1,610 images of 500 detections have 60 MB


def submission_text(found: FoundImage) -> str:
    """The result file of one image: left,top,width,height,score,category,-1,-1 for each detection, best score first.

    Px to three decimals, scores to six. The toolkit cannot read an empty file, so an image without detections gets one
    of a pixel with score 0, which changes no average precision.
    """
    lines = [
        f"{left:.3f},{top:.3f},{width:.3f},{height:.3f},{found.scores[i]:.6f},{found.categories[i]},-1,-1\n"
        for i in np.argsort(-found.scores, kind="stable").tolist()
        for left, top, width, height in [found.boxes[i].tolist()]
    ]
    return "".join(lines) or _NOTHING


def write_submission(folder: Path, names: Sequence[str], found: Iterable[FoundImage]) -> Path:
    """Writes `<name>.txt` for each image, and beside the folder a zip archive of them, as the server takes it.

    Args:
      folder: made where there is none; text files that belong to no image are removed from it.
      names: of the images, without their suffix.
      found: detections of each.

    Returns:
      The archive, the folder's name with `.zip`; the files are at its top level.

    Raises:
      ValueError: two images of one name.
    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected a name of its own for each image, got {twice!r} twice; rename one of the images")
    texts = {f"{name}.txt": submission_text(image) for name, image in zip(names, found, strict=True)}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob("*.txt")} - texts.keys():
        (folder / stale).unlink()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            write_atomically(folder / name, text.encode())
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    path = folder.with_name(f"{folder.name}.zip")
    write_atomically(path, packed.getvalue())
    return path


def read_submission(place: Path, names: Sequence[str], classes: int) -> list[FoundImage]:
    """Reads a submission; nothing of an archive is unpacked to the disk.

    Args:
      place: a folder of text files, or a zip archive with them at its top level.
      names: of the images, without their suffix.
      classes: how many there are; categories 0 and classes + 1 are read too, and scored by nobody.

    Returns:
      The detections of each image of `names`, in the order of their file.

    Raises:
      DataError: a file that is missing or belongs to no image, or a row that is not eight finite numbers with a known
        category and sides of at least 0, or is there twice; by file and line.
    """
    texts = _texts_of_archive(place) if place.is_file() else _texts_of_folder(place)
    expected = {f"{name}.txt": name for name in names}
    for name in sorted(expected.keys() - texts.keys())[:1]:
        raise DataError(
            f"{place}/{name}: expected a result file for each of {len(names)} images, found none for "
            f"{len(expected.keys() - texts.keys())}. Fix: write one, with a row of score 0 if nothing was found."
        )
    for name in sorted(texts.keys() - expected.keys())[:1]:
        raise DataError(
            f"{place}/{name}: expected result files named as the annotation files, got one that belongs to no image. "
            "Fix: remove it, or score on the images the results were made on."
        )
    return [_parse(f"{place}/{name}", texts[name], classes) for name in expected]


def _texts_of_folder(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder or a zip archive of result files, found none. Fix: check the path."
        )
    return {path.name: path.read_bytes() for path in folder.glob("*.txt") if not is_leftover(path.name)}


def _texts_of_archive(path: Path) -> dict[str, bytes]:
    texts: dict[str, bytes] = {}
    left = _LARGEST
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if any(is_leftover(part) for part in entry.filename.split("/")):
                    continue
                _check_entry(path, entry, texts)
                with archive.open(entry) as stream:
                    texts[entry.filename] = stream.read(left + 1)
                left -= len(texts[entry.filename])
                if left < 0:
                    raise DataError(
                        f"{path}: expected at most {_LARGEST >> 20} MiB of results, got more. Fix: keep the best 500 "
                        "detections of each image; more are not scored."
                    )
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{path}: expected a zip archive, got one that cannot be read: {error}. Fix: zip again."
        ) from error
    return texts


def _check_entry(path: Path, entry: zipfile.ZipInfo, texts: dict[str, bytes]) -> None:
    name = entry.filename
    if "/" in name or "\\" in name or not name.endswith(".txt"):
        raise DataError(
            f"{path}: expected text files at the top level, as the server does, got {name!r}. Fix: zip the files "
            "themselves, not their folder."
        )
    if name in texts:
        raise DataError(f"{path}: expected one {name!r}, got two. Fix: zip again, into a new archive.")


def _parse(where: str, data: bytes, classes: int) -> FoundImage:
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: expected a text file, got other bytes. Fix: write it again.") from error
    rows: list[list[float]] = []
    seen: dict[tuple[float, ...], int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _row(f"{where}:{number}", line, classes)
        first = seen.setdefault(tuple(row), number)
        if first != number:
            raise DataError(
                f"{where}:{number}: expected every detection once, got the row of line {first} again. Fix: remove it; "
                "the file may have been written twice."
            )
        rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, 6)
    return FoundImage(table[:, :4], table[:, 5].astype(np.int64), table[:, 4])


def _row(where: str, line: str, classes: int) -> list[float]:
    """The first six columns."""
    cells = line.strip().removesuffix(",").split(",")
    if len(cells) != len(_COLUMNS):
        raise DataError(
            f"{where}: expected {len(_COLUMNS)} columns, {','.join(_COLUMNS)}, got {len(cells)} in {line.strip()!r}. "
            "Fix: correct the row; the last two are -1."
        )
    try:
        row = [float(cell) for cell in cells[:6]]
    except ValueError as error:
        raise DataError(f"{where}: expected numbers, got {line.strip()!r}: {error}. Fix: correct the row.") from error
    if not all(map(math.isfinite, row)):
        raise DataError(f"{where}: expected finite numbers, got {line.strip()!r}. Fix: look where they overflowed.")
    if row[2] < 0 or row[3] < 0:
        raise DataError(
            f"{where}: expected width and height of at least 0, got {cells[2]} and {cells[3]}. "
            "Fix: write left, top, width and height, not corners."
        )
    if row[5] not in range(classes + 2):
        raise DataError(
            f"{where}: expected a category from 1 to {classes} (0 and {classes + 1} are not scored), got {cells[5]}. "
            "Fix: write class index + 1."
        )
    return row
