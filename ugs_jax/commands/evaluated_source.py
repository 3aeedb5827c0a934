"""Source that `ugs eval` scores: a run or a file of weights, on its own data set or another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ugs_jax.runs import LoadedDetector
    from ugs_jax.runs.remote.opened import Opened


@contextmanager
def opened_source(run: str, which: Literal["best", "last"], output: Path | None) -> Iterator[tuple["Opened", str]]:
    """Open a run or a file of weights. Yield the folder for results, and the local source to load.

    Args:
      run: Run folder, file of weights, or URL of one of them.
      which: Checkpoint of a run.
      output: Folder for results; None for the folder of the run, or `evaluation`.
    """
    from ugs_jax.runs.remote.opened import Opened, opened_run
    from ugs_jax.runs.remote.weights_file import is_weights_file

    if is_weights_file(run):
        folder = output or Path("evaluation")
        yield Opened(folder, str(folder)), run
        return
    with opened_run(run, which) as opened:
        yield opened if output is None else Opened(output, str(output)), str(opened.folder)


def on_data(model: "LoadedDetector", data: Path, ignore_classes: Sequence[str] = ()) -> "LoadedDetector":
    """Return a detector whose experiment has another data set.

    Args:
      model: Detector from `load`.
      data: Path of a data.yaml, of an annotation file of COCO, or of the folder of a data set.
      ignore_classes: Names of classes whose boxes are ignore regions. Those that the data set of the run ignores are
        ignored, too, if this one has them.

    Raises:
      DataError: No data set is recognised there, or several are.
      ValueError: Classes of a data set that is neither COCO nor YOLO are to be ignored.
    """
    from data_pipeline import CocoJson, YoloFolder
    from data_pipeline.sources.coco_layouts import coco_of_one_file, is_train_json
    from data_pipeline.sources.recognise import data_source_at
    from ugs_jax.commands.data_option import ignoring_classes
    from ugs_jax.commands.tiled_data import whole_images

    one_file = data.suffix.lower() == ".json" and data.is_file() and not is_train_json(data)
    source = coco_of_one_file(data) if one_file else data_source_at(data)
    before = whole_images(model.experiment.data)
    if isinstance(source, (CocoJson, YoloFolder)) and isinstance(before, (CocoJson, YoloFolder)):
        ignore_classes = (*(name for name in before.ignore_classes if name in source.classes), *ignore_classes)
    source = ignoring_classes(source, ignore_classes)
    return replace(model, experiment=replace(model.experiment, data=source))


def label_of(data: Path) -> str:
    """Return a short name of a data set, as a part of file names."""
    path = data.resolve()
    name = path.parent.name if path.stem == "data" else path.stem
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)
