"""Search for the image files of an annotation file whose names differ in folder, case or spelling."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, unquote_plus

from data_pipeline.decoding.images import path_inside
from data_pipeline.errors import DataError

RENAMED = "image names that differ from those of the files in folder, case or spelling (matched)"
_LEFTOVERS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})
_UPLOAD_HASH = re.compile(r"[0-9a-f]{8}-(?=.)")  # prefix that Label Studio adds to the name of an uploaded file


def is_leftover(name: str) -> bool:
    """Return True for the name of a hidden file or folder, or of one that macOS or Windows creates, as `Thumbs.db`."""
    hidden = name.startswith(".") and not name.startswith("..")
    return hidden or name.casefold() in _LEFTOVERS


def find_files(folder: Path, names: Sequence[str], summary: Counter[str]) -> tuple[list[str | DataError], str | None]:
    """Return the paths of the files of an annotation file in their folder.

    A name without a file is compared without regard to folder, case, Unicode normal form, URL encoding and the hash
    that Label Studio adds as a prefix. A match is accepted if exactly one file fits and no other name matches it.

    Args:
      folder: Folder of the images.
      names: Names in the annotation file.
      summary: Counter to which the number of accepted matches is added.

    Returns:
      For each name, a path relative to `folder` (the name itself if no file matches), or the error of a name that leads
      out of the folder. Second, a text about one name that differs, or None.
    """
    paths: list[str | DataError] = []
    missing: list[int] = []
    for position, name in enumerate(names):
        try:
            path = path_inside(folder, name)
            exists = _is_file(path)
            paths.append(path.relative_to(folder).as_posix())
        except DataError as error:
            paths.append(error)
            exists = False
        if not exists:
            missing.append(position)
    if not missing:
        return paths, None
    index: dict[str, list[PurePosixPath]] = defaultdict(list)
    for file in _files(folder):
        index[_plain(file.name)].append(file)
    exact = {str(paths[position]) for position in set(range(len(names))) - set(missing)}
    files = {position: _match(names[position], index) for position in missing}
    matches = {position: str(file) for position, file in files.items() if file is not None}
    times = Counter(matches.values())
    example = None
    for position, match in matches.items():
        if times[match] == 1 and match not in exact:
            paths[position] = match
            summary[RENAMED] += 1
            example = example or f"{names[position]!r} is read from {match!r}"
    return paths, example


def _match(name: str, index: dict[str, list[PurePosixPath]]) -> PurePosixPath | None:
    """Return the file with the same name and most of the same folders above it as `name`. None if several fit."""
    for spelling in _spellings(name):
        parts = [_plain(part) for part in spelling.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            continue
        ranked = sorted(
            ((_common_end(parts, file), file) for file in index.get(parts[-1], [])), key=lambda pair: -pair[0]
        )
        if ranked and (len(ranked) == 1 or ranked[0][0] > ranked[1][0]):
            return ranked[0][1]
        if ranked:
            return None
    return None


def _spellings(name: str) -> Iterator[str]:
    base = name.rpartition("?d=")[2]  # Label Studio's local files
    for decoded in dict.fromkeys((base, unquote(base), unquote_plus(base), base.partition("?")[0])):
        yield decoded
        last = re.split(r"[\\/]", decoded)[-1]
        if _UPLOAD_HASH.match(last):
            yield _UPLOAD_HASH.sub("", last, count=1)


def _common_end(parts: list[str], file: PurePosixPath) -> int:
    file_parts = [_plain(part) for part in file.parts]
    count = 0
    for part, file_part in zip(reversed(parts), reversed(file_parts), strict=False):
        if part != file_part:
            break
        count += 1
    return count


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _files(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the relative paths of all files below a folder, without hidden ones."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not any(is_leftover(part) for part in relative.parts) and _is_file(path):
            yield PurePosixPath(relative.as_posix())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long or has a null byte
        return False
