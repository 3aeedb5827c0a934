"""Report of a run, at its end or at any time before: predictions next to the ground truth, curves, report."""

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from data_pipeline import DataError, Dataset, LoaderOptions
from ugs_jax.evaluation import ImageDetections
from ugs_jax.report import SheetRow, read_diagnosis, write_contact_sheet, write_run_report, write_worst_images
from ugs_jax.runs.loading import load_for_inference
from ugs_jax.runs.processes import is_first_process
from ugs_jax.runs.run_folder import RunFolder, read_experiment
from ugs_jax.runs.state import TrainState
from ugs_jax.training.evaluate import Detect, detections, jit_detect

_IMAGES = 6


def finish_run(
    folder: Path, detect: Detect, state: TrainState, dataset: Dataset, options: LoaderOptions, mesh: Mesh
) -> None:
    """Write pictures, `curves.png`, `report.md` and `report.html`. Of several processes, only the first writes."""
    rows: list[SheetRow] = []
    with closing(detections(detect, state.ema_params, state.ema_stats, dataset, options, mesh)) as batches:
        for detected, batch in islice(batches, -(-_IMAGES // options.batch_size)):
            for i in np.flatnonzero(batch.valid)[: _IMAGES - len(rows)]:
                valid, truth = np.asarray(detected.valid[i]), batch.mask[i]
                rows.append(
                    SheetRow(
                        image=batch.images[i],
                        truth_boxes=batch.boxes[i][truth],
                        truth_classes=batch.classes[i][truth],
                        ignore=batch.ignore[i][batch.ignore_mask[i]],
                        detections=ImageDetections(
                            np.asarray(detected.boxes[i][valid]),
                            np.asarray(detected.scores[i][valid]),
                            np.asarray(detected.classes[i][valid]),
                        ),
                    )
                )
    if is_first_process():
        write_contact_sheet(folder / "predictions.png", rows, dataset.classes)
        diagnosis = read_diagnosis(folder / "diagnosis_best.json")
        if diagnosis is not None:
            write_worst_images(folder, "best", diagnosis, dataset)
        write_run_report(folder)


def report_run(folder: Path, cache_dir: Path | None = None) -> str | None:
    """Write the final files of a run that was stopped, that is still running, or that is finished.

    They show the best checkpoint, or the last one before the first evaluation. Nothing else in the folder is changed,
    so the run may be in progress.

    Args:
      folder: Run folder.
      cache_dir: Folder of built data sets; None for the default folder.

    Returns:
      The reason why the report has no new predictions, such as a data set that is not on this machine; None if it has.

    Raises:
      RunError: Configuration or metrics are missing or malformed. The message names file and line.
    """
    try:
        experiment = read_experiment(folder)
        which = "best" if any((RunFolder(folder).checkpoints / "best").glob("[0-9]*")) else "last"
        detector, state, mesh = load_for_inference(folder, experiment, which)
        data = experiment.data.open("val", cache_dir)
        finish_run(folder, jit_detect(detector, experiment.postprocess, mesh), state, data, experiment.loader, mesh)
    except (DataError, OSError, ValueError) as error:
        write_run_report(folder)
        return str(error)
    return None
