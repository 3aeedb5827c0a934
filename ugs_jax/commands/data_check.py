"""The command `ugs data check`: faults, leaks between splits, sizes, classes and crowding of a data set."""

import contextlib
import json as json_format
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ugs_jax.exit_status import FAULTY, UNREADABLE

if TYPE_CHECKING:
    from data_pipeline import Dataset, DataSource
    from ugs_jax.experiment import Experiment, TargetRecall

_PERIOD = 30.0
"""Time between two plain lines about the progress, seconds."""


def check_data(
    data: tyro.conf.Positional[str],
    image_size: tuple[int] | tuple[int, int] | None = None,
    ignore_classes: tuple[str, ...] = (),
    output: Path = Path("data_check"),
    threads: int = 2,
    json: bool = False,
) -> int:
    """Check a data set before training: faults, duplicates, sizes, classes, crowding, and what the labels need.

    The exit status is 0 for a clean data set, 1 if there are faults or images in two splits, and 2 if the data set
    cannot be read. Advice does not change the exit status.

    Args:
      data: A data.yaml (YOLO), a COCO annotation file for training, or a folder in YOLO, COCO or VisDrone format. Or a
        config, or a Python file that defines `experiment`, which also gives image size, network and objective.
      image_size: Height and width of the network's input, px. One number gives a square. The default is that of the
        config, or else 640.
      ignore_classes: Names of classes whose boxes are regions to ignore, such as `"ignored regions"`.
      output: Folder for check.md, check.json and contact.png.
      threads: Number of threads that decode images.
      json: Print check.json instead of the report.
    """
    try:
        return _check(data, image_size, ignore_classes, output, threads, json)
    except (ValueError, OSError) as error:
        error.exit_status = UNREADABLE  # type: ignore[union-attr]
        raise


def _check(
    data: str,
    image_size: tuple[int, ...] | None,
    ignore_classes: tuple[str, ...],
    output: Path,
    threads: int,
    json: bool,
) -> int:
    import cv2

    from data_pipeline.check import check_splits
    from ugs_jax.atomic import write_atomically
    from ugs_jax.commands.data_option import ignoring_classes
    from ugs_jax.report import data_check_text, data_check_values, draw_data_sheet, sheet_panels

    experiment = _experiment(data, image_size)
    experiment = replace(experiment, data=ignoring_classes(experiment.data, ignore_classes))
    with contextlib.redirect_stdout(sys.stderr):
        datasets = _open_all(experiment.data)
    with _progress(sum(map(len, datasets))) as on_image:
        check = check_splits(
            datasets,
            image_size=experiment.loader.image_size,
            finest_stride=min(experiment.network.strides),
            max_boxes=experiment.loader.max_boxes,
            max_detections=experiment.postprocess.max_detections,
            threads=threads,
            on_image=on_image,
        )
    check = replace(check, name=data)
    targets = _targets(experiment, datasets)
    values = json_format.dumps(data_check_values(check, targets), indent=1, ensure_ascii=False)
    text = data_check_text(check, targets)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "check.json", values.encode())
    panels = sheet_panels(check, datasets)
    if panels:
        sheet = cv2.cvtColor(draw_data_sheet(panels, check.classes), cv2.COLOR_RGB2BGR)
        write_atomically(output / "contact.png", cv2.imencode(".png", sheet)[1].tobytes())
        text += "\n## Contact sheet\n\n![Contact sheet](contact.png)\n"
    write_atomically(output / "check.md", text.encode())
    print(values if json else text)
    print(f"written: {output}/check.md, check.json{', contact.png' if panels else ''}", file=sys.stderr)
    return 0 if check.clean else FAULTY


def _open_all(source: "DataSource") -> "list[Dataset]":
    """Open all splits. Further splits than `train` and `val` that cannot be opened are named and left out."""
    from data_pipeline import DataError
    from data_pipeline.sources.all_splits import splits_on_disk
    from data_pipeline.sources.visdrone import VisDrone
    from ugs_jax.commands.data import print_missing

    datasets, names = [], splits_on_disk(source)
    for split in names:
        try:
            datasets.append(source.open(split))
        except DataError as error:
            if split in ("train", "val"):
                raise
            print(f"{split} is left out: {error}")
    if isinstance(source, VisDrone):
        print_missing(names)
    return datasets


def _experiment(data: str, image_size: Sequence[int] | None) -> "Experiment":
    """Return the experiment of a config, or the one for own data with the data set at a path."""
    from ugs_jax.commands.data_option import OWN_DATA, with_data
    from ugs_jax.commands.train import config_modules, load_config

    is_config = data.endswith(".py") or (not Path(data).exists() and data in config_modules())
    experiment = load_config(data) if is_config else with_data(load_config(OWN_DATA), data)
    if image_size is None:
        return experiment
    return replace(experiment, loader=replace(experiment.loader, image_size=(image_size[0], image_size[-1])))


def _targets(experiment: "Experiment", datasets: "Sequence[Dataset]") -> "TargetRecall | str":
    from ugs_jax.experiment import target_recall

    try:
        return target_recall(experiment, datasets[0])
    except ValueError as error:  # there are no boxes, or none that fits
        return str(error)


@contextlib.contextmanager
def _progress(images: int) -> Iterator[Callable[[], object]]:
    """Show the number of checked images: a bar on a terminal, a plain line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("images", total=images)
            yield lambda: bar.advance(task)
        return
    done, last = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last >= _PERIOD:
            last = time.monotonic()
            console.print(f"{done:,} of {images:,} images checked", highlight=False)

    yield advance
