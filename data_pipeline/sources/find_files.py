"""Finds the files that an annotation file means, where their names differ in folder, case or spelling."""

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
_UPLOAD_HASH = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the name of an uploaded file


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder is hidden, or one that macOS or Windows leaves behind: `._a.jpg`, `Thumbs.db`."""
    hidden = name.startswith(".") and not name.startswith("..")
    return hidden or name.casefold() in _LEFTOVERS


def find_files(folder: Path, names: Sequence[str], summary: Counter[str]) -> tuple[list[str | DataError], str | None]:
    """Return where the files of an annotation file lie in their folder.

    A name that has no file is compared without regard to folder, case, Unicode normal form, URL encoding and the hash
    that Label Studio puts before it. It counts if exactly one file matches, and no other name means that one.

    Args:
      folder: of the images.
      names: as the annotation file has them.
      summary: to add the count of other names to.

    Returns:
      For each name a path relative to `folder`, which is the name itself where no file matches, or the error of a name
      that leads out of the folder; and an example of a name that differs.
    """
    found: list[str | DataError] = []
    missing: list[int] = []
    for place, name in enumerate(names):
        try:
            path = path_inside(folder, name)
            there = _is_file(path)
            found.append(path.relative_to(folder).as_posix())
        except DataError as error:
            found.append(error)
            there = False
        if not there:
            missing.append(place)
    if not missing:
        return found, None
    index: dict[str, list[PurePosixPath]] = defaultdict(list)
    for file in _files(folder):
        index[_plain(file.name)].append(file)
    exact = {str(found[place]) for place in set(range(len(names))) - set(missing)}
    matches = {place: _match(names[place], index) for place in missing}
    meant = {place: str(file) for place, file in matches.items() if file is not None}
    times = Counter(meant.values())
    example = None
    for place, other in meant.items():
        if times[other] == 1 and other not in exact:
            found[place] = other
            summary[RENAMED] += 1
            example = example or f"{names[place]!r} is read from {other!r}"
    return found, example


def _match(name: str, index: dict[str, list[PurePosixPath]]) -> PurePosixPath | None:
    """The one file whose last name, and as many folders above it as can be, are those of `name`."""
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
    theirs = [_plain(part) for part in file.parts]
    count = 0
    for ours, other in zip(reversed(parts), reversed(theirs), strict=False):
        if ours != other:
            break
        count += 1
    return count


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _files(folder: Path) -> Iterator[PurePosixPath]:
    """All files below a folder, as relative paths; nothing hidden."""
    for place in sorted(folder.rglob("*")):
        relative = place.relative_to(folder)
        if not any(is_leftover(part) for part in relative.parts) and _is_file(place):
            yield PurePosixPath(relative.as_posix())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a null byte
        return False
