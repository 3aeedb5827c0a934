"""What a finished run leaves: predictions beside the truth, curves, report."""

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from data_pipeline import Dataset, LoaderOptions
from ugs_jax.report import SheetRow, plot_run, write_contact_sheet, write_report
from ugs_jax.runs.processes import is_first_process
from ugs_jax.runs.state import TrainState
from ugs_jax.training.evaluate import Detect, detections

_IMAGES = 6


def finish_run(
    folder: Path, detect: Detect, state: TrainState, dataset: Dataset, options: LoaderOptions, mesh: Mesh
) -> None:
    """Write `predictions.png`, `curves.png` and `report.md`; of several processes, the first does."""
    rows: list[SheetRow] = []
    with closing(detections(detect, state.ema_params, state.ema_stats, dataset, options, mesh)) as batches:
        for found, batch in islice(batches, -(-_IMAGES // options.batch_size)):
            for i in np.flatnonzero(batch.valid)[: _IMAGES - len(rows)]:
                seen, truth = np.asarray(found.valid[i]), batch.mask[i]
                rows.append(
                    SheetRow(
                        image=batch.images[i],
                        truth_boxes=batch.boxes[i][truth],
                        truth_labels=batch.labels[i][truth],
                        ignore=batch.ignore[i][batch.ignore_mask[i]],
                        boxes=np.asarray(found.boxes[i][seen]),
                        labels=np.asarray(found.classes[i][seen]),
                        scores=np.asarray(found.scores[i][seen]),
                    )
                )
    if is_first_process():
        write_contact_sheet(folder / "predictions.png", rows, dataset.classes)
        plot_run(folder)
        write_report(folder)
