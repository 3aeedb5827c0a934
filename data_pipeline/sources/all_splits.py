"""The splits that a data set has on disk."""

from pathlib import Path

from data_pipeline.dataset import DataSource
from data_pipeline.errors import DataError
from data_pipeline.sources.visdrone import FOLDERS, VisDrone
from data_pipeline.sources.yolo_folder import YoloFolder
from data_pipeline.sources.yolo_yaml import read_data_yaml


def splits_on_disk(source: DataSource) -> tuple[str, ...]:
    """Return the names of a data set's splits, the training split first. Most sources have `train` and `val`.

    Raises:
      DataError: There is no split, or data.yaml cannot be read.
    """
    if isinstance(source, YoloFolder):
        return tuple(read_data_yaml(Path(source.yaml)).splits)
    if not isinstance(source, VisDrone):
        return "train", "val"
    found = tuple(split for split, part in FOLDERS.items() if (Path(source.root) / part).is_dir())
    if not found:
        raise DataError(
            f"{source.root}: expected {', '.join(FOLDERS.values())}, found none. Fix: "
            "`ugs data prepare visdrone --from FOLDER`."
        )
    return found
