"""`ugs data prepare`: from downloaded archives to a data set that is checked and built."""

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro


def data_command(words: list[str]) -> None:
    """The `ugs data` command."""
    tyro.extras.subcommand_cli_from_dict({"prepare": _prepare, "check": _check}, args=words, prog="ugs data")


def _prepare(
    name: tyro.conf.Positional[Literal["visdrone"]],
    source: Annotated[Path, tyro.conf.arg(name="from")],
    to: Path | None = None,
) -> None:
    """Unpack the official archives of a data set, check every file, and build it for training.

    Args:
      name: of the data set.
      source: folder that holds the downloaded archives, or their unpacked folders.
      to: folder for the data set; by default the environment variable VISDRONE, or data/visdrone.
    """
    from data_pipeline.sources.unpack import IMAGES, unpack_visdrone

    target = _folder(to)
    found = unpack_visdrone(source, target)
    for one in found:
        origin = "was there" if one.source is None else f"from {one.source}"
        note = "" if one.images == IMAGES[one.split] else f"; the official archive has {IMAGES[one.split]:,}"
        print(f"{name}/{one.split}: {one.images:,} images, {origin}{note}")
    splits = [one.split for one in found]
    _build(target, splits)
    _say_missing(splits)
    if to is not None and "VISDRONE" not in os.environ:
        print(f"the configs look for it in data/visdrone; say where it is: export VISDRONE={to}")


def _check(name: tyro.conf.Positional[Literal["visdrone"]], folder: Path | None = None) -> None:
    """Read all of a data set, and say what was found, dropped and left out.

    Args:
      name: of the data set.
      folder: of the data set; by default the environment variable VISDRONE, or data/visdrone.
    """
    from data_pipeline.errors import DataError
    from data_pipeline.sources.visdrone import FOLDERS

    place = _folder(folder)
    splits = [split for split, part in FOLDERS.items() if (place / part).is_dir()]
    if not splits:
        raise DataError(
            f"{place}: expected {', '.join(FOLDERS.values())}, found none. "
            f"Fix: `ugs data prepare {name} --from FOLDER`."
        )
    _build(place, splits)
    _say_missing(splits)


def _say_missing(splits: list[str]) -> None:
    """Name the splits that are not there, and what cannot be done without them."""
    from data_pipeline.sources.visdrone import FOLDERS

    needed = {"train": "training", "val": "training", "test": "ugs eval --split test", "challenge": "its submission"}
    for split, part in FOLDERS.items():
        if split not in splits:
            print(f"{split}: {part} is missing; only {needed[split]} needs it")


def _folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("VISDRONE", "data/visdrone"))


def _build(folder: Path, splits: list[str]) -> None:
    from data_pipeline import VisDrone

    for split in splits:
        data = VisDrone(folder).open(split)
        dropped = (
            ", ".join(f"{count:,} {reason}" for reason, count in sorted(data.summary.items())) or "nothing dropped"
        )
        boxes = sum(len(data.annotations(i).boxes) for i in range(len(data)))
        print(f"{split}: {len(data):,} images, {boxes:,} objects; {dropped}")
