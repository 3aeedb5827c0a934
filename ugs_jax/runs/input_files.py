"""Files to detect objects in, and their names in output files."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_pipeline.decoding.videos import VIDEO_SUFFIXES
from data_pipeline.sources.find_files import is_leftover

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of the files that are taken from a folder as images."""


class InputFile(NamedTuple):
    """An image or a video.

    Attributes:
      path: Path of the file.
      file_name: Path relative to the deepest folder that contains all given folders, with forward slashes, or the name
        alone of a file outside it. If no folder is given, or two files would get the same name: path relative to the
        deepest folder that contains all files.
      name: The same without suffix if no other input file has that name, and with suffix otherwise.
    """

    path: Path
    file_name: str
    name: str


def input_files(paths: Sequence[Path]) -> list[InputFile]:
    """Return the images and videos at paths. A file that is given twice is returned once.

    Args:
      paths: Files of any name, or folders. The images and videos of a folder are sorted by name. Hidden files and files
        that macOS and Windows leave behind are skipped.

    Raises:
      FileNotFoundError: A path does not exist, or there are no images and videos.
    """
    files = {Path(os.path.normpath(file.absolute())): file for path in paths for file in _files(path)}
    if not files:
        where = ", ".join(map(str, paths)) or "images"
        raise FileNotFoundError(
            f"{where}: expected image files ({', '.join(sorted(IMAGE_SUFFIXES))}) or video files "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), found none"
        )
    names = _names(list(files), [Path(os.path.normpath(path.absolute())) for path in paths if path.is_dir()])
    short = [str(name.with_suffix("")) for name in names]
    times = Counter(_key(name) for name in short)
    return [
        InputFile(path, str(name), plain if times[_key(plain)] == 1 else str(name))
        for path, name, plain in zip(files.values(), names, short, strict=True)
    ]


def _names(files: Sequence[Path], folders: Sequence[Path]) -> list[PurePosixPath]:
    """Return the paths of files relative to folders, as described at `InputFile.file_name`."""
    if folders:
        folder = Path(os.path.commonpath(folders))
        names = [file.relative_to(folder) if file.is_relative_to(folder) else Path(file.name) for file in files]
        if len({str(name).casefold() for name in names}) == len(names):
            return [PurePosixPath(name) for name in names]
    folder = Path(os.path.commonpath([file.parent for file in files]))
    return [PurePosixPath(file.relative_to(folder)) for file in files]


def _key(name: str) -> str:
    """Return equal keys for names that some file systems or programs take for the same: `A` and `a`, `7` and `007`."""
    return name.lstrip("0") or "0" if name.isdigit() else name.casefold()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        found = (file for file in path.iterdir() if file.suffix.lower() in suffixes and not is_leftover(file.name))
        return sorted(file for file in found if not file.is_dir())
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an image or a video, or a folder of them, found nothing there")
    return [path]
