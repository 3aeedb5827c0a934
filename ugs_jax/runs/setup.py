"""What a run starts from: data sets, anchors; the same in every process."""

from pathlib import Path

import jax

from data_pipeline import Dataset, DataSource
from data_pipeline.pictures import require_readable
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import Fitted, fit_to
from ugs_jax.experiment.serialize import fitted_from, fitted_to_json
from ugs_jax.runs.processes import in_first_process
from ugs_jax.runs.run_folder import RunFolder


def open_splits(data: DataSource, cache_dir: Path | None, *, strict: bool = False) -> tuple[Dataset, Dataset]:
    """Training and validation images; of several processes, the first builds what is not built yet.

    Raises:
      DataError: input that cannot be used; if strict, an image that could not be read.
    """
    open_both = lambda: (data.open("train", cache_dir), data.open("val", cache_dir))  # noqa: E731
    if jax.process_count() > 1:
        in_first_process(lambda: len(open_both()))
    found = open_both()
    for dataset in found if strict else ():
        require_readable(dataset)
    return found


def agreed_fit(experiment: Experiment, run: RunFolder, dataset: Dataset) -> Fitted:
    """What the run was begun with, or what is fitted to the data set now; the same in every process."""
    find = lambda: fitted_to_json(run.read_fitted(experiment) if run.begun else fit_to(experiment, dataset))  # noqa: E731
    return fitted_from(in_first_process(find))
