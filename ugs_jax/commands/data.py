"""The command `ugs data prepare`: unpack, check and build a data set. `ugs data check` is in `data_check`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro


def data_command(words: list[str]) -> int | None:
    """Run `ugs data` and return its exit status."""
    from ugs_jax.commands.data_check import check_data

    commands: dict[str, Callable[..., int | None]] = {"prepare": _prepare, "check": check_data}
    status: int | None = tyro.extras.subcommand_cli_from_dict(commands, args=words, prog="ugs data")
    return status


def _prepare(
    name: tyro.conf.Positional[Literal["visdrone"]],
    source: Annotated[Path, tyro.conf.arg(name="from")],
    to: Path | None = None,
) -> None:
    """Unpack the official archives of a data set, check every file, and build it for training.

    Args:
      name: Name of the data set.
      source: Folder with the downloaded archives, or with their unpacked folders.
      to: Folder for the data set. The default is the environment variable VISDRONE, or else data/visdrone.
    """
    from data_pipeline.sources.unpack import IMAGES, unpack_visdrone
    from data_pipeline.wording import counted

    target = _folder(to)
    unpacked = unpack_visdrone(source, target)
    for part in unpacked:
        origin = "already unpacked" if part.source is None else f"from {part.source}"
        note = "" if part.images == IMAGES[part.split] else f"; the official archive has {IMAGES[part.split]:,}"
        print(f"{name}/{part.split}: {counted(part.images, 'image')}, {origin}{note}")
    splits = [part.split for part in unpacked]
    _build(target, splits)
    print_missing(splits)
    if to is not None and "VISDRONE" not in os.environ:
        print(f"the configs read data/visdrone by default; to use this folder: export VISDRONE={to}")


def print_missing(splits: Sequence[str]) -> None:
    """Print the splits of VisDrone that are missing, and what needs them."""
    from data_pipeline.sources.visdrone import FOLDERS

    needed = {"train": "training", "val": "training", "test": "ugs eval --split test", "challenge": "its submission"}
    for split, part in FOLDERS.items():
        if split not in splits:
            print(f"{split}: {part} is missing; only {needed[split]} needs it")


def _folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("VISDRONE", "data/visdrone"))


def _build(folder: Path, splits: list[str]) -> None:
    from data_pipeline import VisDrone
    from data_pipeline.wording import counted, counted_reason

    for split in splits:
        data = VisDrone(folder).open(split)
        dropped = (
            ", ".join(counted_reason(count, reason) for reason, count in sorted(data.summary.items()))
            or "nothing dropped"
        )
        boxes = sum(len(data.annotations(i).boxes) for i in range(len(data)))
        print(f"{split}: {counted(len(data), 'image')}, {counted(boxes, 'object')}; {dropped}")
