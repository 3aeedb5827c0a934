"""Cache of data set splits: each is built once, in a folder that is named by a fingerprint of its input."""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.cleaning import CLIPPED, OUTSIDE, UNREADABLE
from data_pipeline.dataset import AnnotationTable, Dataset, Example, tabulate
from data_pipeline.errors import DataError
from data_pipeline.faults import Fault, Faults
from data_pipeline.ignored_classes import ignored_classes_note, with_ignored_classes
from data_pipeline.wording import counted, counted_reason

FORMAT_VERSION = 4
SourceId = int | str


@dataclass(frozen=True)
class SplitRecipe:
    """Everything that is needed to build one split of a data set.

    Attributes:
      name: Name of the data set, such as `coco_json`. It must be a valid TFDS data set name.
      split: Name of the split, `train` or `val`.
      classes: Class names.
      category_ids: Identifier of every class in the source.
      fingerprint: Result of `fingerprint` for everything that decides the content.
      examples: Function that yields the source's image id and the example for each image. The `image_id` of the
        examples counts from 0. The function adds to its counter, by reason, the annotations that it drops or clips, and
        notes there which they are (`Faults.note`).
      notes: Whole sentences that are printed when the split is built.
      ignore_classes: Classes whose boxes become ignore regions when the split is opened. The built split has them.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    fingerprint: str
    examples: Callable[[Faults], Iterator[tuple[SourceId, "Example | Unreadable"]]]
    notes: tuple[str, ...] = ()
    ignore_classes: tuple[str, ...] = ()


class Unreadable(NamedTuple):
    """An example whose image cannot be read, and the error message."""

    example: Example
    reason: str


@dataclass
class ArrayRecordImages:
    """Encoded images of a TFDS folder, which is opened at the first read. Only the folder's name is pickled."""

    folder: Path
    split: str
    _source: Any = field(default=None, repr=False, compare=False)

    @property
    def built(self) -> Path:
        """Cache folder of the split, which contains the TFDS folder `name/version`."""
        return self.folder.parents[1]

    def __getitem__(self, index: int, /) -> bytes:
        """Return the bytes of encoded image `index`."""
        if self._source is None:
            from data_pipeline.builder import read_array_record

            self._source = read_array_record(self.folder, self.split)
        return bytes(self._source[index]["image"])

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "split": self.split, "_source": None}


def fingerprint(*parts: object) -> str:
    """Return a hash of 16 hexadecimal digits. Every part needs a stable `repr`."""
    return hashlib.sha256(repr((FORMAT_VERSION, *parts)).encode()).hexdigest()[:16]


def file_stamps(folder: Path, names: list[str]) -> list[tuple[str, int, int]]:
    """Return name, size in bytes and modification time in ns of every file. Both numbers are -1 for a missing file."""

    def stamp(name: str) -> tuple[str, int, int]:
        try:
            status = (folder / name).stat()
        except OSError:
            return name, -1, -1
        return name, status.st_size, status.st_mtime_ns

    return [stamp(name) for name in names]


def default_cache_dir() -> Path:
    """Return the folder in the environment variable UGS_CACHE, by default `~/.cache/ugs_jax/datasets`."""
    return Path(os.environ.get("UGS_CACHE") or Path.home() / ".cache" / "ugs_jax" / "datasets")


def open_split(recipe: SplitRecipe, cache_dir: Path | None) -> Dataset:
    """Open a split from the cache. It is built first if the cache has no split with this fingerprint.

    The split is built in a temporary folder that is renamed when it is complete. A reader therefore never meets an
    incomplete data set, even if a build was killed or several processes build at once.

    Args:
      recipe: Split to build.
      cache_dir: Folder of all built data sets. None means `default_cache_dir()`.

    Raises:
      DataError: The input of the recipe cannot be used, more than half of the images cannot be read, or a class to
        ignore is none of the data set's.
    """
    parent = (cache_dir or default_cache_dir()) / recipe.name
    folder = parent / f"{recipe.split}-{recipe.fingerprint}"
    if not folder.exists():
        parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=parent))
        try:
            _build(recipe, unfinished, folder)
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return with_ignored_classes(_load(folder), recipe.ignore_classes)


def _build(recipe: SplitRecipe, unfinished: Path, folder: Path) -> None:
    from data_pipeline.builder import write_array_record

    print(f"{recipe.name}/{recipe.split}: building once, under {folder}", flush=True)
    summary = Faults()
    annotations: list[Example] = []
    source_ids: list[SourceId] = []
    unreadable: dict[int, str] = {}

    def noted() -> Iterator[Example]:
        for source_id, item in recipe.examples(summary):
            example, reason = item if isinstance(item, Unreadable) else (item, None)
            if reason is not None:
                unreadable[example.image_id] = reason
            source_ids.append(source_id)
            annotations.append(example._replace(image=b""))
            yield example

    records = write_array_record(recipe.name, recipe.split, noted(), unfinished)
    if 2 * summary[UNREADABLE] > len(annotations):
        raise DataError(
            f"{recipe.name}/{recipe.split}: expected images, but {summary[UNREADABLE]} of {len(annotations)} cannot be "
            "read; each is named above. Fix: check the folder, its permissions, and the sizes in the annotations."
        )
    shutil.rmtree(unfinished / "extracted", ignore_errors=True)  # TFDS's folder for downloads
    np.savez(unfinished / "annotations.npz", **tabulate(annotations)._asdict())
    description = {
        "name": recipe.name,
        "split": recipe.split,
        "classes": recipe.classes,
        "category_ids": recipe.category_ids,
        "file_names": [example.file_name for example in annotations],
        "source_ids": source_ids,
        "summary": dict(sorted(summary.items())),
        "faults": summary.noted,
        "unreadable": list(unreadable.items()),
        "records": str(records.relative_to(unfinished)),
    }
    (unfinished / "dataset.json").write_text(json.dumps(description))
    for line in _report(recipe, annotations, summary):
        print(line, flush=True)


def _report(recipe: SplitRecipe, annotations: list[Example], summary: Counter[str]) -> list[str]:
    boxes = sum(len(example.boxes) for example in annotations)
    regions = sum(len(example.ignore) for example in annotations)
    title = f"{recipe.name}/{recipe.split}"
    sizes = ((len(annotations), "image"), (boxes, "box"), (regions, "ignore region"))
    head = f"{title}: {', '.join(counted(number, noun) for number, noun in sizes)}"
    counts = [f"{title}:   {counted_reason(count, reason)}" for reason, count in sorted(summary.items())]
    leaving = summary[CLIPPED] + summary[OUTSIDE]
    if 2 * leaving > boxes + regions + summary[OUTSIDE]:
        counts.append(
            f"{title}: {leaving:,} boxes, more than half, leave their image. They may be stored as corners instead of "
            "widths, in a unit other than px, or for images of another size"
        )
    note = ignored_classes_note([name for name in recipe.classes if name not in recipe.ignore_classes])
    return [head, *recipe.notes, *([f"{title}: {note}"] if note else []), *counts]


def _publish(unfinished: Path, folder: Path) -> None:
    unfinished.chmod(0o755)  # mkdtemp creates a private folder
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process has built the same split in the meantime
            raise


def _load(folder: Path) -> Dataset:
    # While TFDS is imported, its own hook handles the imports of all threads and breaks some of them. It is therefore
    # imported here and not at the first read of a loading thread, when another thread may be writing a checkpoint.
    import data_pipeline.builder  # noqa: F401

    description = json.loads((folder / "dataset.json").read_text())
    with np.load(folder / "annotations.npz") as arrays:
        table = AnnotationTable(**arrays)
    return Dataset(
        name=description["name"],
        split=description["split"],
        classes=tuple(description["classes"]),
        file_names=tuple(description["file_names"]),
        source_ids=tuple(description["source_ids"]),
        category_ids=tuple(description["category_ids"]),
        table=table,
        images=ArrayRecordImages(folder / description["records"], description["split"]),
        summary=description["summary"],
        noted=tuple(Fault(*fault) for fault in description["faults"]),
        unreadable=dict(description["unreadable"]),
    )
