"""The option `--data PATH`: a user's data set in place of the one that a config names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_pipeline import DataSource
    from ugs_jax.experiment import Experiment

OWN_DATA = "own_data"
"""Config for a user's data set."""


def split_data(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Return all words except `--data PATH` and `--data=PATH`, and the path. None if the option is missing.

    Raises:
      ValueError: The option has no value, or is given twice.
    """
    others: list[str] = []
    paths: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--data" or word.startswith("--data="):
            paths.append(word.partition("=")[2] or next(rest, ""))
        else:
            others.append(word)
    if len(paths) > 1 or any(not path or path.startswith("-") for path in paths):
        got = " and ".join(path or "nothing" for path in paths)
        raise ValueError(f"--data: expected one path, got {got}; write --data data.yaml, or the folder of a data set")
    return others, paths[0] if paths else None


def with_data(experiment: "Experiment", data: str | None) -> "Experiment":
    """Return an experiment with the data set at a path, recognised by its files. With None, it is unchanged.

    Args:
      experiment: Experiment.
      data: Path of a data.yaml, of a COCO annotation file for training, or of a folder.

    Raises:
      DataError: No data set is recognised there, or several are.
    """
    from data_pipeline import data_source_at

    return experiment if data is None else replace(experiment, data=data_source_at(data))


def ignoring_classes(source: "DataSource", names: Sequence[str]) -> "DataSource":
    """Return a data set that ignores some classes, besides those that it ignores already.

    Args:
      source: Data set.
      names: Names of the classes.

    Raises:
      ValueError: The data set has no such setting.
    """
    from data_pipeline import CocoJson, YoloFolder

    if not names:
        return source
    if not isinstance(source, (CocoJson, YoloFolder)):
        raise ValueError(
            f"--ignore-classes: expected a data set of COCO or YOLO, got {type(source).__name__}; leave "
            "--ignore-classes out"
        )
    return replace(source, ignore_classes=tuple(dict.fromkeys((*source.ignore_classes, *names))))
