"""The report of one evaluation of a run, with its plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline import Dataset, wording
from ugs_jax.evaluation import ImageDetections
from ugs_jax.report.diagnosis import diagnose
from ugs_jax.report.diagnosis_file import write_diagnosis
from ugs_jax.report.html_report import write_html_report
from ugs_jax.report.plots.diagnosis import plot_diagnosis
from ugs_jax.report.worst_images import write_worst_images


def write_evaluation_report(
    folder: Path,
    name: str,
    data: Dataset,
    found: Sequence[tuple[int, ImageDetections]],
    scores: Mapping[str, float | None],
    counted: str,
) -> dict[str, Path]:
    """Write the diagnosis of an evaluation, its plots and its report into the folder of a run. Return files by kind.

    Args:
      folder: Folder of the run.
      name: Name of the evaluation, such as `best_test`.
      data: Annotated images.
      found: Index and detections of each image.
      scores: Scores of the detections.
      counted: Description of the protocol in one line.
    """
    diagnosis = diagnose(
        data, found, f"{wording.counted(len(data), 'image')} of {data.name}/{data.split}, evaluation {name}"
    )
    numbers = write_diagnosis(folder / f"diagnosis_{name}.json", diagnosis)
    pictures = plot_diagnosis(diagnosis, folder / f"plots_{name}")
    write_worst_images(folder, name, diagnosis, data)
    page = write_html_report(folder, name) if name == "best" else write_html_report(folder, name, scores, counted)
    return {"page": page, "diagnosis": numbers, "plots": next(iter(pictures.values())).parent}
