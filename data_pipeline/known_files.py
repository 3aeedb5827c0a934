"""Files that are often given by mistake: recognition by their first bytes or keys, and a fix for each."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple


class KnownFile(NamedTuple):
    """A known kind of file that cannot be read here.

    Attributes:
      name: Name of the kind, a noun phrase with its article.
      fix: Advice in the imperative, without a full stop.
    """

    name: str
    fix: str


_EXPORT = "export the annotations in COCO detection format"
_BY_START: tuple[tuple[bytes, KnownFile], ...] = (
    (
        rb"version https://git-lfs\.github\.com/",
        KnownFile("a Git LFS pointer", "run `git lfs pull`, which fetches the file"),
    ),
    (
        rb"(?i)\s*(<!doctype html|<html|<head|<body)",
        KnownFile("a web page", "download the file itself; the link led to a page, for example a login page"),
    ),
    (rb"\s*<\?xml[^>]*>\s*<annotations", KnownFile("CVAT's XML", _EXPORT)),
    (rb"\s*(<\?xml[^>]*>\s*)?<annotation\b", KnownFile("a Pascal VOC annotation file", _EXPORT)),
    (rb"\s*<\?xml", KnownFile("XML", _EXPORT)),
    (rb"PK\x03\x04", KnownFile("a zip archive", "unpack it")),
    (rb"\x1f\x8b", KnownFile("a gzip archive", "unpack it")),
    (rb"\x80[\x02-\x05]", KnownFile("a Python pickle", "write the content as JSON")),
)
_START = re.compile(rb"version https|\s*<|PK\x03\x04|\x1f\x8b|\x80[\x02-\x05]", re.IGNORECASE)


def known_file(data: bytes) -> KnownFile | None:
    """Return the kind of a file by its first bytes. None for JSON and for unknown files."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf")
    if not _START.match(start):
        return None
    return next((kind for pattern, kind in _BY_START if re.match(pattern, start)), None)


def known_json(content: Any) -> KnownFile | None:
    """Return the program-specific format of a JSON value. None for COCO and for unknown formats."""
    return next((kind for fits, kind in _BY_KEYS if fits(content)), None)


def _has(content: Any, *keys: str) -> bool:
    return isinstance(content, dict) and all(key in content for key in keys)


def _first(content: Any) -> Any:
    values = content.values() if isinstance(content, dict) else content
    return next(iter(values), None) if isinstance(content, dict | list) else None


_BY_KEYS: tuple[tuple[Callable[[Any], bool], KnownFile], ...] = (
    (
        lambda content: _has(content, "shapes", "imagePath") or _has(_first(content), "shapes", "imagePath"),
        KnownFile("a file of labelme", "convert all of them with labelme's `labelme2coco.py`"),
    ),
    (
        lambda content: _has(content, "_via_img_metadata") or _has(_first(content), "regions", "filename"),
        KnownFile(
            "a project or annotation file of VIA (VGG Image Annotator)", "use its menu Annotation, Export (COCO format)"
        ),
    ),
    (
        lambda content: isinstance(content, list) and _has(_first(content), "data", "annotations"),
        KnownFile("Label Studio's own JSON", "export as COCO"),
    ),
    (
        lambda content: isinstance(content, list) and _has(_first(content), "image_id", "score"),
        KnownFile("a list of detections (COCO results)", "give the annotation file for which they were made"),
    ),
    (
        lambda content: isinstance(content, list) and _has(_first(content), "image", "annotations"),
        KnownFile("CreateML's JSON", _EXPORT),
    ),
    (
        lambda content: _has(content, "samples", "media_type"),
        KnownFile("FiftyOne's own JSON", "export a COCODetectionDataset"),
    ),
    (
        lambda content: _has(content, "samples") and _has(_first(content["samples"]), "filepath"),
        KnownFile("FiftyOne's own JSON", "export a COCODetectionDataset"),
    ),
    (
        lambda content: _has(content, "items", "categories") and "images" not in content,
        KnownFile("Datumaro's JSON", "run `datum convert -f coco_instances`"),
    ),
    (lambda content: _has(content, "objects", "size"), KnownFile("a file of Supervisely", _EXPORT)),
)
