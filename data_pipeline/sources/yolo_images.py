"""Images of a YOLO split: folders and lists are searched, and each image gets the path of its label file."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.sources.find_files import is_leftover
from data_pipeline.sources.yolo_yaml import DataYaml, decode

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp")
LISTED_TWICE = "images listed twice (second dropped)"
NO_IMAGE = "label files without an image (not used)"
_NOT_IMAGES = ("", ".cache", ".csv", ".json", ".md", ".npy", ".txt", ".xml", ".yaml", ".yml")


@dataclass
class YoloImages:
    """Images of a split.

    Attributes:
      paths: Paths of the images, sorted within each folder, in the order of each list.
      listed: For images of a list, file and line of the list.
      summary: Numbers of images and files that are not used, by reason.
    """

    paths: list[Path]
    listed: dict[Path, str] = field(default_factory=dict)
    summary: Counter[str] = field(default_factory=Counter)


def find_root(data: DataYaml) -> tuple[Path, tuple[str, ...]]:
    """Return the folder to which the splits of a data.yaml are relative, and notes about it for the user.

    It is `path`, and without `path` the folder of data.yaml. A relative `path` starts at the working directory. If the
    splits `train` and `val` are not there, but are in the folder of data.yaml, or in `path` seen from there, that
    folder is taken.

    Raises:
      DataError: No such folder has both splits, or data.yaml does not name them.
    """
    for split in ("train", "val"):
        if split not in data.splits:
            raise DataError(
                f"{data.path}: expected the key {split!r}, the images of the split, got none. "
                f"Fix: add `{split}: images/{split}`."
            )
    folder = data.path.parent.absolute()
    given = None if data.root is None else Path(data.root).expanduser()
    roots = [folder] if given is None else list(dict.fromkeys([given.absolute(), folder / given, folder]))
    for root in roots:
        if not _missing(data, root):
            if root == roots[0]:
                return root, ()
            return root, (
                f"{data.path}:{data.root_line}: the images are not in 'path', {roots[0]}; those in {root} are used",
            )
    split, place = _missing(data, roots[0])[0]
    searched = " and ".join(dict.fromkeys(str(root / place) for root in roots))
    raise DataError(
        f"{data.path}:{data.splits[split].line}: expected the folder or list {place!r} of the split {split!r}, found "
        f"none at {searched}. Fix: correct {split!r}, or set 'path' to the folder to which it is relative."
    )


def find_images(data: DataYaml, split: str, root: Path) -> YoloImages:
    """Return the images of a split.

    Args:
      data: Content of data.yaml.
      split: Name of a split that data.yaml names.
      root: Folder to which its places are relative.

    Raises:
      DataError: A folder or list does not exist, or there is no image.
    """
    line, places = data.splits[split]
    images = YoloImages([])
    for place in places:
        path = _place(root, place)
        if path is None:
            raise DataError(
                f"{data.path}:{line}: expected the folder or list {place!r} of the split {split!r}, found none at "
                f"{root / place}. Fix: correct {split!r}."
            )
        if path.is_dir():
            images.paths += _in_folder(path, images.summary)
        else:
            _add_list(path, root, images)
    unique: dict[str, Path] = {}
    for path in images.paths:
        unique.setdefault(os.path.normpath(path), path)
    if len(unique) < len(images.paths):
        images.summary[LISTED_TWICE] += len(images.paths) - len(unique)
        images.paths = list(unique.values())
    if not images.paths:
        others = "".join(f"; found {count} {reason}" for reason, count in sorted(images.summary.items()))
        raise DataError(
            f"{data.path}:{line}: expected images of the split {split!r} ({', '.join(SUFFIXES)}), found none in "
            f"{', '.join(map(str, (_place(root, place) for place in places)))}{others}. Fix: correct {split!r}."
        )
    return images


def label_path(image: Path) -> Path:
    """Return the path of an image's label file: the last folder `images` becomes `labels`, else beside the image."""
    head, found, tail = str(image).rpartition(f"{os.sep}images{os.sep}")
    return (Path(head, "labels", tail) if found else image).with_suffix(".txt")


def count_unused_labels(images: list[Path]) -> Counter[str]:
    """Count the label files beside those of the images that belong to no image on the disk."""
    summary: Counter[str] = Counter()
    for folder in {image.parent for image in images}:
        labels = label_path(folder / "x.jpg").parent
        if labels == folder or not labels.is_dir():  # beside the images, a text file may be anything
            continue
        stems = {path.stem for path in folder.iterdir()}
        unused = [path.name for path in labels.glob("*.txt") if path.stem not in stems]
        summary[NO_IMAGE] += sum(name != "classes.txt" and not is_leftover(name) for name in unused)
    return +summary


def _missing(data: DataYaml, root: Path) -> list[tuple[str, str]]:
    """Return the places of train and val that are not in a root, with their splits."""
    wanted = [(split, place) for split in ("train", "val") for place in data.splits[split].places]
    return [(split, place) for split, place in wanted if _place(root, place) is None]


def _place(root: Path, place: str) -> Path | None:
    """Return the path of a folder or list, or None.

    A missing `../x` is looked for as `x`, for which Roboflow's files ask. Files of Windows have backslashes.
    """
    slashed = place.replace("\\", "/")
    candidates = (root / Path(place).expanduser(), root / slashed, root / slashed.removeprefix("../"))
    return next((path for path in candidates if path.exists()), None)


def _in_folder(folder: Path, summary: Counter[str]) -> list[Path]:
    return sorted(path for path in _walk(folder, set()) if _is_image(path, summary))


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Yield all files below a folder, also behind links, without hidden ones and without going in circles."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_leftover(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), seen)
            elif entry.is_file() or entry.is_symlink():  # a broken link is named when it cannot be read
                yield Path(entry.path)


def _is_image(path: Path, summary: Counter[str]) -> bool:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and suffix not in _NOT_IMAGES:
        summary[f"files with the suffix {suffix}, which is not read (left out)"] += 1
    return suffix in SUFFIXES


def _add_list(path: Path, root: Path, images: YoloImages) -> None:
    """Add the images of a list. Lines with `./` are relative to the list, others to the working directory or root."""
    try:
        text = decode(path.read_bytes(), path, "a list of image files")
    except OSError as error:
        raise DataError(
            f"{path}: expected a list of image files, got {error.strerror}. Fix: check the path."
        ) from error
    if path.suffix.lower() != ".txt":
        raise DataError(f"{path}: expected a folder or a list with the suffix .txt. Fix: correct data.yaml.")
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.strip()
        if not name or not _is_image(Path(name), images.summary):
            continue
        image = _listed(name, path, root)
        images.paths.append(image)
        images.listed.setdefault(image, f"{path}:{number}")


def _listed(name: str, path: Path, root: Path) -> Path:
    """Return the path of an image in a list. Lists that were written on Windows have backslashes."""
    spellings = list(dict.fromkeys((name, name.replace("\\", "/"))))
    folders = [path.parent] if name[:2] in ("./", ".\\") else [Path.cwd(), root, path.parent]
    candidates = [(folder / spelling).absolute() for spelling in spellings for folder in folders]
    return next((each for each in candidates if each.is_file()), candidates[-1])
