"""Final files of a run: predictions next to the ground truth, curves, report."""

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from data_pipeline import Dataset, LoaderOptions
from ugs_jax.evaluation import ImageDetections
from ugs_jax.report import (
    SheetRow,
    plot_run,
    read_diagnosis,
    write_contact_sheet,
    write_html_report,
    write_report,
    write_worst_images,
)
from ugs_jax.runs.processes import is_first_process
from ugs_jax.runs.state import TrainState
from ugs_jax.training.evaluate import Detect, detections

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
        plot_run(folder)
        diagnosis = read_diagnosis(folder / "diagnosis_best.json")
        if diagnosis is not None:
            write_worst_images(folder, "best", diagnosis, dataset)
        write_report(folder)
        write_html_report(folder)
