"""Results in VisDrone's submission format: one text file per image, in a folder or a zip archive."""

import math
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_pipeline import DataError
from data_pipeline.sources.find_files import is_leftover
from ugs_jax.atomic import replacing, write_atomically
from ugs_jax.evaluation.results import CocoRow, rows_by_score

_COLUMNS = ("left", "top", "width", "height", "score", "category", "truncation", "occlusion")
_NOTHING = "0,0,1,1,0,1,-1,-1\n"
_LARGEST = 1 << 29  # bytes of text; 1,610 images of 500 detections have 60 MB


def submission_text(rows: Iterable[CocoRow]) -> str:
    """Return the result file of one image: a line left,top,width,height,score,category,-1,-1 per detection, best first.

    Px have three decimals, scores six. The toolkit cannot read an empty file. Therefore an image without detections
    gets a detection of one pixel with score 0, which changes no average precision.
    """
    lines = [
        ",".join([*(f"{side:.3f}" for side in row["bbox"]), f"{row['score']:.6f}", f"{row['category_id']},-1,-1\n"])
        for row in rows_by_score(rows)
    ]
    return "".join(lines) or _NOTHING


def write_submission(folder: Path, names: Sequence[str], rows: Iterable[CocoRow]) -> Path:
    """Write `<name>.txt` for each image, and beside the folder a zip archive of them for the evaluation server.

    Args:
      folder: Output folder, created if it is missing. Text files that belong to no image are removed from it.
      names: Name of each image, without suffix.
      rows: Detections. `image_id` is an index into `names`.

    Returns:
      Path of the archive: the folder's name with `.zip`. The files are at its top level.

    Raises:
      ValueError: Two images have the same name, or a row has an `image_id` that is not an index into `names`.
    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names: expected a unique name for each image, got {twice!r} twice; rename one of the images")
    by_image: list[list[CocoRow]] = [[] for _ in names]
    for row in rows:
        if not 0 <= row["image_id"] < len(names):
            raise ValueError(
                f"image_id {row['image_id']}: expected 0…{len(names) - 1}, the index of a name; pass the name of every "
                "image"
            )
        by_image[row["image_id"]].append(row)
    for name, image in zip(names, by_image, strict=True):
        write_atomically(folder / f"{name}.txt", submission_text(image).encode())
    return pack_submission(folder, names)


def pack_submission(folder: Path, names: Sequence[str]) -> Path:
    """Write a zip archive of the text files of a folder, beside it. Other text files are removed from the folder.

    Args:
      folder: Folder with `<name>.txt` for each image. It is created if it is missing.
      names: Name of each image, without suffix.

    Returns:
      Path of the archive.
    """
    files = [f"{name}.txt" for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob("*.txt")} - set(files):
        (folder / stale).unlink()
    path = folder.with_name(f"{folder.name}.zip")
    with replacing(path) as packed, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def read_submission(path: Path, names: Sequence[str], classes: int) -> list[CocoRow]:
    """Read a submission. Archives are read without unpacking them to the disk.

    Args:
      path: Folder of text files, or zip archive with text files at its top level.
      names: Name of each image, without suffix.
      classes: Number of classes. Categories 0 and classes + 1 are read too, though no protocol scores them.

    Returns:
      Detections, by image in the order of `names` and by row. `image_id` is an index into `names`.

    Raises:
      DataError: A file is missing or belongs to no image, or a row is repeated or is not eight finite numbers with a
        known category and sides of at least 0. The message names the file and the line.
    """
    texts = _texts_of_archive(path) if path.is_file() else _texts_of_folder(path)
    expected = {f"{name}.txt": name for name in names}
    for name in sorted(expected.keys() - texts.keys())[:1]:
        raise DataError(
            f"{path}/{name}: expected a result file for each of {len(names)} images, found none for "
            f"{len(expected.keys() - texts.keys())}. Fix: write one, with a row of score 0 for an image without "
            "detections."
        )
    for name in sorted(texts.keys() - expected.keys())[:1]:
        raise DataError(
            f"{path}/{name}: expected result files with the names of the annotation files, got one that belongs to no "
            "image. Fix: remove it, or score on the images of the results."
        )
    rows = []
    for image_id, name in enumerate(expected):
        for left, top, width, height, score, category in _parse(f"{path}/{name}", texts[name], classes):
            box = [left, top, width, height]
            rows.append(CocoRow(image_id=image_id, category_id=int(category), bbox=box, score=score))
    return rows


def _texts_of_folder(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder or a zip archive of result files, found neither. Fix: check the path."
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
            f"{path}: expected a zip archive, got one that cannot be read: {error}. Fix: create it again."
        ) from error
    return texts


def _check_entry(path: Path, entry: zipfile.ZipInfo, texts: dict[str, bytes]) -> None:
    name = entry.filename
    if "/" in name or "\\" in name or not name.endswith(".txt"):
        raise DataError(
            f"{path}: expected text files at the top level, like the evaluation server, got {name!r}. Fix: zip the "
            "files themselves, not their folder."
        )
    if name in texts:
        raise DataError(f"{path}: expected one {name!r}, got two. Fix: zip the files into a new archive.")


def _parse(where: str, data: bytes, classes: int) -> list[list[float]]:
    """Return the first six columns of every row."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: expected UTF-8 text, got other bytes. Fix: write the file as UTF-8 text.") from error
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
    return rows


def _row(where: str, line: str, classes: int) -> list[float]:
    """Return the first six columns of a line."""
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
        raise DataError(
            f"{where}: expected finite numbers, got {line.strip()!r}. Fix: look for an overflow in the detector."
        )
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
