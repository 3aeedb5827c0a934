"""Unpacking of the official VisDrone-DET archives: only images and annotations, and only inside the target folder."""

import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_pipeline.errors import DataError
from data_pipeline.sources.find_files import is_leftover
from data_pipeline.sources.visdrone import FOLDERS, SUFFIXES, UNANNOTATED

IMAGES = {"train": 6471, "val": 548, "test": 1610, "challenge": 1580}
"""Numbers of images in the official archives. `test` is test-dev, `challenge` is test-challenge."""

_MOST_BYTES = 64 << 20
"""Largest size of one unpacked file. An image of VisDrone has at most a few MB."""


@dataclass(frozen=True)
class Unpacked:
    """A split that is ready for use.

    Attributes:
      split: Name of the split: `train`, `val`, `test` (test-dev) or `challenge` (test-challenge).
      folder: Folder with `images` and, except for `challenge`, `annotations`.
      images: Number of images.
      source: Archive or folder from which the split was made. None if the split already existed.
    """

    split: str
    folder: Path
    images: int
    source: Path | None


def unpack_visdrone(source: Path, target: Path) -> list[Unpacked]:
    """Unpack or copy the splits in `source` to `target`, in the layout that `VisDrone` reads.

    A split may be an archive such as `VisDrone2019-DET-train.zip` (with or without a folder of that name inside), or a
    folder of that name, which is copied. An existing split is left unchanged. A split appears complete or not at all.

    Args:
      source: Folder that contains archives or unpacked folders, at any depth.
      target: Folder for the data set. It may be `source`.

    Raises:
      DataError: There is no split, an archive is damaged or encrypted, or a name in an archive leads out of the folder
        or occurs twice.
    """
    if not source.is_dir():
        raise DataError(f"{source}: expected the folder of the official archives, found none. Fix: correct --from.")
    found = []
    for split, name in FOLDERS.items():
        folder = target / name
        origin = None if folder.is_dir() else _find(source, name)
        if origin is not None:
            _fill(origin, folder, ("images",) if split == UNANNOTATED else ("images", "annotations"))
        if folder.is_dir():
            found.append(
                Unpacked(
                    split, folder, sum(not is_leftover(path.name) for path in (folder / "images").iterdir()), origin
                )
            )
    if not found:
        listed = ", ".join(f"{name}.zip" for name in FOLDERS.values())
        raise DataError(
            f"{source}: expected one of {listed}, or folders of these names, found none. Fix: download them from "
            "https://github.com/VisDrone/VisDrone-Dataset (Task 1) and give their folder with --from."
        )
    return found


def _find(source: Path, name: str) -> Path | None:
    folders = (path for path in sorted(source.rglob(name)) if (path / "images").is_dir())
    return next(folders, None) or next(iter(sorted(source.rglob(f"{name}.zip"))), None)


def _fill(origin: Path, folder: Path, kinds: tuple[str, ...]) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if origin.is_dir():
            for kind in kinds:
                shutil.copytree(origin / kind, part / kind, ignore=_leftovers)
        else:
            _extract(origin, part, kinds)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _leftovers(_: str, names: list[str]) -> list[str]:
    return [name for name in names if is_leftover(name)]


def _extract(archive: Path, part: Path, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        (part / kind).mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as file:
            for member, path in _members(archive, file, kinds):
                with file.open(member) as content, (part / path).open("xb") as out:
                    shutil.copyfileobj(content, out)
    except RuntimeError as error:  # includes NotImplementedError, for an unknown compression
        raise DataError(
            f"{archive}: expected a zip archive that is not encrypted, got: {error}. Fix: this is not the official "
            "archive; download it from its source."
        ) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{archive}: expected a whole zip archive, got: {error}. Fix: download it again.") from error


def _members(archive: Path, file: zipfile.ZipFile, kinds: tuple[str, ...]) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    """Yield the images and annotations of a split with their paths below its folder. Other files are skipped."""
    seen: set[Path] = set()
    for member in file.infolist():
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or re.search(r"[\\:]", member.filename):
            raise DataError(
                f"{archive}: expected names inside the archive's folder, got {member.filename!r}. "
                "Fix: this is not the official archive; download it from its source."
            )
        kind = {**dict.fromkeys(SUFFIXES, "images"), ".txt": "annotations"}.get(path.suffix.lower(), "")
        if member.is_dir() or kind not in kinds or path.parent.name != kind or any(map(is_leftover, path.parts)):
            continue
        if member.file_size > _MOST_BYTES:
            raise DataError(
                f"{archive}: expected files of at most {_MOST_BYTES >> 20} MiB, got {member.filename} of "
                f"{member.file_size >> 20} MiB. Fix: this is not the official archive; download it from its source."
            )
        target = Path(kind) / path.name
        if target in seen:
            raise DataError(
                f"{archive}: expected every file once, got {member.filename!r} a second time. Fix: this is not the "
                "official archive; download it from its source."
            )
        seen.add(target)
        yield member, target
