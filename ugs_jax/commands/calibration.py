"""Calibration of predicted deviations for `ugs eval --calibration`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment


def check_calibration(experiment: "Experiment", split: str) -> None:
    """Raise a ValueError if the objective of a run predicts no deviations, or a split has no calibration.

    Args:
      experiment: Experiment of the run.
      split: Split of the data set.
    """
    from ugs_jax.objectives import PredictsDeviation

    if not isinstance(experiment.localization, PredictsDeviation):
        raise ValueError(
            "--calibration: expected a run whose objective predicts a distribution, such as UGS or DFL, got "
            f"{type(experiment.localization).__name__}, which predicts no deviations; leave --calibration out"
        )
    if split not in ("val", "train"):
        raise ValueError(f"--calibration: expected --split val or train, got {split}; run it without --split")


def write_calibration(folder: Path, which: Literal["best", "last"], split: Literal["val", "train"]) -> dict[str, Path]:
    """Write `calibration_<checkpoint>.json` and `.png` into the folder of a run, and return these files by kind.

    Args:
      folder: Folder of the run.
      which: Checkpoint.
      split: Split of the data set.

    Raises:
      ValueError: No detection matches an object.
    """
    from ugs_jax.analysis import measure_calibration
    from ugs_jax.atomic import write_atomically
    from ugs_jax.report import plot_calibration

    measured = measure_calibration(folder, which=which, split=split)
    file = folder / f"calibration_{which}{'' if split == 'val' else f'_{split}'}.json"
    values = {
        "unit": "px of the stored images; root mean squares over the sides of a bin",
        "factor": measured.factor,
        "predicted": measured.predicted.tolist(),
        "error": measured.error.tolist(),
        "count": measured.count.tolist(),
    }
    write_atomically(file, json.dumps(values, indent=1).encode())
    return {"calibration": file, "picture": plot_calibration(measured, file.with_suffix(".png"))}
