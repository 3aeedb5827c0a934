"""Setup of a run: data sets, anchors and label grids, equal in every process."""

from pathlib import Path

import jax

from data_pipeline import DataError, Dataset, DataSource
from data_pipeline.pictures import require_readable
from data_pipeline.wording import counted, counted_reason
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import Fitted, fit_to
from ugs_jax.experiment.serialize import fitted_from, fitted_to_json
from ugs_jax.runs.processes import in_first_process
from ugs_jax.runs.run_folder import RunFolder


def open_splits(data: DataSource, cache_dir: Path | None, *, strict: bool = False) -> tuple[Dataset, Dataset]:
    """Open the training and the validation images. With several processes, the first one builds missing data sets.

    Args:
      data: Data set.
      cache_dir: Folder of built data sets; None for the default folder.
      strict: Raise an error for images that cannot be read.

    Raises:
      DataError: The input cannot be used or has no object to learn, or `strict` is set and an image cannot be read.
    """
    open_both = lambda: (data.open("train", cache_dir), data.open("val", cache_dir))  # noqa: E731
    if jax.process_count() > 1:
        in_first_process(lambda: len(open_both()))
    splits = open_both()
    if not len(splits[0].table.boxes):
        reasons = ", ".join(counted_reason(count, reason) for reason, count in splits[0].summary.items())
        raise DataError(
            f"{splits[0].name}/train: expected objects to learn, got none in "
            f"{counted(len(splits[0]), 'image')}"
            f"{f'; left out: {reasons}' if reasons else ''}. Fix: check the annotations."
        )
    for dataset in splits if strict else ():
        require_readable(dataset)
    return splits


def agreed_fit(experiment: Experiment, run: RunFolder, dataset: Dataset) -> Fitted:
    """Return anchors and label grids: those of the run, or fitted to the data set if the run is new.

    The result is equal in every process.

    Args:
      experiment: Experiment of the run.
      run: Run folder.
      dataset: Training images.
    """
    find = lambda: fitted_to_json(run.read_fitted() if run.begun else fit_to(experiment, dataset))  # noqa: E731
    return fitted_from(in_first_process(find))
