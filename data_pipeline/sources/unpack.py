"""The official VisDrone-DET archives, unpacked: nothing else comes out of them, and nothing outside the folder."""

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
"""Images in the official archives; `test` is test-dev, `challenge` is test-challenge."""

_MOST_BYTES = 64 << 20
"""Of one unpacked file: an image of VisDrone has at most a few MB."""


@dataclass(frozen=True)
class Unpacked:
    """A split that is ready.

    Attributes:
      split: `train`, `val`, `test` (test-dev) or `challenge` (test-challenge).
      folder: holds `images` and, but for `challenge`, `annotations`.
      images: how many there are.
      source: the archive or folder it came from; None where it was there already.
    """

    split: str
    folder: Path
    images: int
    source: Path | None


def unpack_visdrone(source: Path, target: Path) -> list[Unpacked]:
    """Bring the splits found in `source` into `target`, in the layout that `VisDrone` reads.

    A split may be an archive, `VisDrone2019-DET-train.zip` (with a folder of that name in it, or without), or a folder
    of that name, which is copied. A split that is there already stays. A split appears whole or not at all.

    Args:
      source: folder of archives or unpacked folders, anywhere in it.
      target: folder for the data set; may be `source`.

    Raises:
      DataError: no split found; an archive that is damaged or encrypted; a name in it that leads out of the folder, or
        is there twice.
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
            "https://github.com/VisDrone/VisDrone-Dataset (Task 1) and name their folder with --from."
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
            for member, place in _members(archive, file, kinds):
                with file.open(member) as content, (part / place).open("xb") as out:
                    shutil.copyfileobj(content, out)
    except RuntimeError as error:  # of which NotImplementedError is one, for compression that is not known
        raise DataError(
            f"{archive}: expected a zip archive that is not encrypted, got: {error}. Fix: this is not the official "
            "archive; download it from its source."
        ) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{archive}: expected a whole zip archive, got: {error}. Fix: download it again.") from error


def _members(archive: Path, file: zipfile.ZipFile, kinds: tuple[str, ...]) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    """What a split has of images and annotations, with places below its folder; other files are not unpacked."""
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
        place = Path(kind) / path.name
        if place in seen:
            raise DataError(
                f"{archive}: expected every file once, got {member.filename!r} a second time. Fix: this is not the "
                "official archive; download it from its source."
            )
        seen.add(place)
        yield member, place
