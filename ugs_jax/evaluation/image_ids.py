"""Which image a detection of a results file belongs to: by its id, or by the name of its file."""

import typing
from collections.abc import Sequence
from pathlib import PurePosixPath

from data_pipeline.sources.coco_parse import CocoImage
from data_pipeline.sources.identifiers import identifier, whole_number

_BY_NAME = "image ids are matched by the names of the images' files"


class ImageIds(typing.NamedTuple):
    """Places of images by what a results file calls them.

    Attributes:
      places: by id or name.
      by_name: names count, in place of ids.
      note: sentence for the reader; empty where ids are ids.
      examples: some of the ids, for messages.
    """

    places: dict[int | str, int]
    by_name: bool
    note: str
    examples: str

    def find(self, value: typing.Any) -> int | None:
        """Return the place of an image; None where the annotations have no such image."""
        key = _name_key(value) if self.by_name else identifier(value)
        return None if key is None else self.places.get(key)


def choose_image_ids(entries: Sequence[typing.Any], images: Sequence[CocoImage]) -> ImageIds:
    """Return how a results file names images: by ids, or else, where that finds more of them, by file names.

    Ultralytics writes the stem of the file as `image_id`, as a number where it has digits only, and beside it
    `file_name`. Where that contradicts the ids, the names count.

    Args:
      entries: of the results file.
      images: of the annotations.
    """
    examples = ", ".join(repr(image.source_id) for image in images[:3])
    ids = ImageIds({image.source_id: place for place, image in enumerate(images)}, False, "", examples)
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
    """Paths, file names and stems that one image alone has; stems of digits as numbers."""
    places: dict[int | str, set[int]] = {}
    for place, image in enumerate(images):
        path = PurePosixPath(image.file_name.replace("\\", "/"))
        texts = {str(path), path.name, path.stem, str(path.with_suffix("")) if path.name else ""}
        for text in texts - {""}:
            key = _name_key(text)
            if key is not None:
                places.setdefault(key, set()).add(place)
    return {key: next(iter(found)) for key, found in places.items() if len(found) == 1}


def _name_key(value: typing.Any) -> int | str | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    number = whole_number(value) if not isinstance(value, str) else None
    return identifier(value) if number is None else number
