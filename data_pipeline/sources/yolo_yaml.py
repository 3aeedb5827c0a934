"""Reading of the data.yaml of a YOLO folder: class names, splits, and the folder to which their paths are relative."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_pipeline.errors import DataError
from data_pipeline.sources.identifiers import whole_number

SPLITS = ("train", "val", "test")
_ALSO = {"val": ("val", "validation")}
_EXAMPLE = "write `train: images/train`, `val: images/val` and `names: [car, person]`"


class SplitPlaces(NamedTuple):
    """Value of a split in data.yaml.

    Attributes:
      line: Line of the split in data.yaml.
      places: Folders of images and `.txt` lists of image files, as written.
    """

    line: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class DataYaml:
    """Content of a data.yaml.

    Attributes:
      path: Path of the file.
      classes: Class names. Names that several classes share are followed by their index.
      splits: Splits that the file names, by `train`, `val` and `test`.
      root: Value of `path` as written, or None.
      root_line: Line of `path`, or of the first key.
      keypoint_values: Number of values after the box in rows with keypoints (`kpt_shape`), or None.
    """

    path: Path
    classes: tuple[str, ...]
    splits: dict[str, SplitPlaces]
    root: str | None
    root_line: int
    keypoint_values: int | None


def read_data_yaml(path: Path) -> DataYaml:
    """Read a data.yaml. Nothing in it is executed; `download` is ignored.

    Raises:
      DataError: The file is missing, is not YAML, or its keys are wrong. The message names file and line.
    """
    entries = _top_level(path)
    if "train" not in entries and not {"names", "nc"} & entries.keys():
        raise DataError(
            f"{path}: expected the keys 'train', 'val' and 'names' of a YOLO data set, got "
            f"{', '.join(map(repr, entries)) or 'none'}. Fix: {_EXAMPLE}."
        )
    splits = {}
    for split in SPLITS:
        key = next((key for key in _ALSO.get(split, (split,)) if key in entries), None)
        places = None if key is None else _places(path, key, entries[key])
        if places is not None:
            splits[split] = places
    root = entries.get("path")
    text = None if root is None or _is_null(root) else _text(path, "path", root)
    return DataYaml(
        path=path,
        classes=_classes(path, entries),
        splits=splits,
        root=text or None,
        root_line=1 if root is None else _line(root),
        keypoint_values=_keypoint_values(path, entries),
    )


def _top_level(path: Path) -> dict[str, yaml.Node]:
    """Return the nodes of the top-level keys. Nodes know their lines and the text of `yes`, `no` and numbers."""
    try:
        text = decode(path.read_bytes(), path, "a data.yaml")
    except OSError as error:
        raise DataError(f"{path}: expected a data.yaml, got {error.strerror}. Fix: check the path.") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{line}: expected YAML, got {error.problem}. Fix: correct the line.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: expected YAML, got {str(error).splitlines()[0]}. Fix: write it again.") from error
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path}: expected keys such as 'train', 'val' and 'names', got none. Fix: {_EXAMPLE}.")
    return _pairs(path, node)


def decode(data: bytes, path: Path, kind: str) -> str:
    """Return the text of a file in UTF-8 or UTF-16, with or without a byte order mark.

    Args:
      data: Bytes of the file.
      path: Path of the file, for error messages.
      kind: Expected kind of file, for error messages.

    Raises:
      DataError: The bytes are not text.
    """
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected {kind}, which is text in UTF-8, got an invalid byte at position {error.start}. "
            "Fix: save the file as UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"{path}: expected {kind}, got a file with null bytes. Fix: copy it again from its source.")
    return text


def _classes(path: Path, entries: dict[str, yaml.Node]) -> tuple[str, ...]:
    count = _whole(path, "nc", entries["nc"], least=1) if "nc" in entries else None
    if "names" not in entries:
        if count is None:
            raise DataError(f"{path}: expected the key 'names', the class names, got none. Fix: add `names: [car, …]`.")
        return tuple(f"class_{index}" for index in range(count))
    node = entries["names"]
    where = f"{path}:{_line(node)}"
    if isinstance(node, yaml.SequenceNode):
        names = {index: _text(path, "names", child) for index, child in enumerate(node.value)}
    elif isinstance(node, yaml.MappingNode):
        children = _pairs(path, node)
        numbers = {key: whole_number(key) for key in children}
        names = {
            int(number): _text(path, "names", children[key]) for key, number in numbers.items() if number is not None
        }
        if sorted(names) != list(range(len(children))):
            raise DataError(
                f"{where}: expected 'names' to have the class indices 0 to {len(children) - 1}, got "
                f"{', '.join(children)}. Fix: number the classes from 0 without a gap."
            )
    else:
        raise DataError(f"{where}: expected 'names' to be a list of class names. Fix: write `names: [car, person]`.")
    if not names or (count is not None and count != len(names)):
        raise DataError(
            f"{where}: expected {count or 'one or more'} names{'' if count is None else ', as nc says'}, got "
            f"{len(names)}. Fix: correct 'names'{'' if count is None else ' or leave nc out'}."
        )
    times = Counter(names.values())
    return tuple(f"{name} (class {index})" if times[name] > 1 else name for index, name in sorted(names.items()))


def _places(path: Path, key: str, node: yaml.Node) -> SplitPlaces | None:
    if _is_null(node) or node.value == "":
        return None
    children = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return SplitPlaces(_line(node), tuple(_text(path, key, child) for child in children))


def _keypoint_values(path: Path, entries: dict[str, yaml.Node]) -> int | None:
    node = entries.get("kpt_shape")
    if node is None:
        return None
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
        raise DataError(f"{path}:{_line(node)}: expected 'kpt_shape' to be two numbers. Fix: write `[17, 3]`.")
    points, values = (_whole(path, "kpt_shape", child, least=1) for child in node.value)
    return points * values


def _pairs(path: Path, node: yaml.MappingNode) -> dict[str, yaml.Node]:
    pairs: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "a list"
        if name in pairs:
            raise DataError(f"{path}:{_line(key)}: expected the key {name!r} once, got it twice. Fix: remove one.")
        pairs[name] = value
    return pairs


def _text(path: Path, key: str, node: yaml.Node) -> str:
    text = node.value.strip() if isinstance(node, yaml.ScalarNode) else ""
    if not text or (_is_null(node) and key != "names"):
        raise DataError(f"{path}:{_line(node)}: expected a text for {key!r}, got none. Fix: write it in quotes.")
    return str(text)


def _whole(path: Path, key: str, node: yaml.Node, least: int) -> int:
    number = whole_number(node.value) if isinstance(node, yaml.ScalarNode) else None
    if number is None or number < least:
        shown = node.value[:40] if isinstance(node, yaml.ScalarNode) else "a list"
        raise DataError(
            f"{path}:{_line(node)}: expected {key!r} to be a whole number from {least}, got {shown}. Fix: correct it."
        )
    return number


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
