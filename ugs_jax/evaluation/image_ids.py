"""Images of the detections in a results file, by id or by file name."""

import typing
from collections.abc import Sequence
from pathlib import PurePosixPath

from data_pipeline.sources.coco_parse import CocoImage
from data_pipeline.sources.identifiers import identifier, whole_number

_BY_NAME = "image ids are matched by the names of the images' files"


class ImageIds(typing.NamedTuple):
    """Images by the ids or names in a results file.

    Attributes:
      indices: Index of each image by its id or name.
      by_name: Images are matched by name instead of id.
      note: Sentence for the user; empty if images are matched by id.
      examples: Some of the ids, for error messages.
    """

    indices: dict[int | str, int]
    by_name: bool
    note: str
    examples: str

    def find(self, value: typing.Any) -> int | None:
        """Return the index of an image; None if the annotations do not contain it."""
        key = _name_key(value) if self.by_name else identifier(value)
        return None if key is None else self.indices.get(key)


def choose_image_ids(entries: Sequence[typing.Any], images: Sequence[CocoImage]) -> ImageIds:
    """Choose between ids and file names, depending on which match more images of a results file.

    Ultralytics writes the stem of the file as `image_id` (as a number if it consists of digits), and also writes
    `file_name`. If `file_name` contradicts the ids, images are matched by name.

    Args:
      entries: Entries of the results file.
      images: Images of the annotations.
    """
    examples = ", ".join(repr(image.source_id) for image in images[:3])
    ids = ImageIds({image.source_id: index for index, image in enumerate(images)}, False, "", examples)
    names = ImageIds(_names(images), True, _BY_NAME, examples)
    values: dict[int | str, str | None] = {}
    for entry in entries:
        if isinstance(entry, dict) and (key := identifier(entry.get("image_id"))) is not None:
            file_name = entry.get("file_name")
            values.setdefault(key, file_name if isinstance(file_name, str) else None)
    by_id = sum(ids.find(value) is not None for value in values)
    by_name = sum(names.find(value) is not None for value in values)
    contradicted = by_name == len(values) and any(
        file_name is not None and names.find(value) == names.find(file_name) != ids.find(value)
        for value, file_name in values.items()
    )
    return names if by_name > by_id or contradicted else ids


def _names(images: Sequence[CocoImage]) -> dict[int | str, int]:
    """Return the image of each path, file name and stem that only one image has. Stems of digits become numbers."""
    indices: dict[int | str, set[int]] = {}
    for index, image in enumerate(images):
        path = PurePosixPath(image.file_name.replace("\\", "/"))
        texts = {str(path), path.name, path.stem, str(path.with_suffix("")) if path.name else ""}
        for text in texts - {""}:
            key = _name_key(text)
            if key is not None:
                indices.setdefault(key, set()).add(index)
    return {key: next(iter(same)) for key, same in indices.items() if len(same) == 1}


def _name_key(value: typing.Any) -> int | str | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    number = whole_number(value) if not isinstance(value, str) else None
    return identifier(value) if number is None else number
