"""The report of a run as one HTML file, report.html, that needs no other file, no network and no script."""

import math
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.wording import counted
from ugs_jax.atomic import write_atomically
from ugs_jax.experiment.changes import changed_settings
from ugs_jax.report import report_tables
from ugs_jax.report.diagnosis import Diagnosis
from ugs_jax.report.diagnosis_file import read_diagnosis
from ugs_jax.report.plots.calibration import draw_calibration
from ugs_jax.report.plots.colors import OUTCOMES
from ugs_jax.report.plots.diagnosis import (
    MOST_DRAWN,
    draw_confusion,
    draw_f1,
    draw_precision_recall,
    draw_reliability,
    most_confused,
)
from ugs_jax.report.plots.inline import inline_svg
from ugs_jax.report.plots.run import draw_panel, panels_of
from ugs_jax.report.run_end import describe_end
from ugs_jax.report.run_log import Row, Run, read_run
from ugs_jax.report.text import printable, shortened
from ugs_jax.report.worst_images import worst_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECTIONS = (
    ("curves", "Curves"),
    ("confidence", "Precision, recall, F1"),
    ("classes", "By class"),
    ("sizes", "By size"),
    ("confusion", "Confusion"),
    ("worst", "Worst images"),
    ("calibration", "Calibration"),
    ("throughput", "Throughput"),
    ("configuration", "Configuration"),
    ("environment", "Environment"),
)
"""Ids and names of the sections of report.html. A section without data says so in a sentence."""


def write_html_report(
    run_folder: Path,
    name: str = "best",
    scores: Mapping[str, float | None] | None = None,
    protocol: str | None = None,
) -> Path:
    """Write `report.html` from the files of a run folder. Neither the network nor the data set is needed.

    Curves, confusion, worst images and calibration come from `diagnosis_<name>.json` and `worst_<name>`. Without these
    files, the sections say which command writes them.

    Args:
      run_folder: Run folder of `ugs train`.
      name: Name of the evaluation. Reports of other evaluations than `best` are named `report_<name>.html`.
      scores: Scores of this evaluation; None for the best ones in the log.
      protocol: Description of what the scores count; None for that of the run.

    Returns:
      Path of the report.

    Raises:
      RunError: A file of the run is missing or malformed. The message names file and line.
    """
    folder = Path(run_folder)
    run, diagnosis = read_run(folder), read_diagnosis(folder / f"diagnosis_{name}.json")
    context = _context(run, name, dict(run.best or {}) if scores is None else dict(scores), diagnosis)
    context["protocol"] = printable(f"Scores: {protocol or run.config.get('protocol') or 'protocol not recorded'}.")
    path = folder / ("report.html" if name == "best" else f"report_{name}.html")
    write_atomically(path, _template().render(context).encode("utf-8", "replace"))
    return path


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("ugs_jax.report", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html")


def _context(run: Run, name: str, scores: Row, diagnosis: Diagnosis | None) -> dict[str, Any]:
    return {
        "title": printable(f"{run.name}, seed {run.seed}"),
        "sections": SECTIONS,
        "headline": _headline(run, name, scores),
        "tiles": report_tables.tiles(run, scores, diagnosis),
        "command": printable(str(run.config.get("command") or "")),
        "curves": [_plot(draw_panel(run, panel), panel.title, f"curve{i}-") for i, panel in enumerate(panels_of(run))],
        "class_columns": report_tables.CLASS_COLUMNS if diagnosis else ("class", "AP"),
        "classes": report_tables.class_rows(scores, diagnosis),
        "sizes": report_tables.size_rows(scores, diagnosis),
        "throughput": report_tables.throughput(run),
        "settings": [[printable(cell) for cell in row] for row in changed_settings(run.config.get("experiment"))],
        "environment": report_tables.environment(run),
        "plots_command": f"ugs eval {printable(str(run.folder))} --plots",
        "key": [(color, text) for color, text in OUTCOMES.values()],
        **_diagnosed(run.folder, name, diagnosis),
    }


def _diagnosed(folder: Path, name: str, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Return the parts of the report that need a diagnosis."""
    if diagnosis is None:
        empty = ("confidence", "confidence_plots", "confusion", "worst", "pictures", "calibration_plots")
        return {"diagnosis": False, **dict.fromkeys(empty)}
    counts = diagnosis.confusion
    background = len(diagnosis.classes)
    missed, false = sum(row[-1] for row in counts), sum(counts[-1])
    right = sum(counts[k][k] for k in range(background))
    objects = sum(map(sum, counts[:-1]))
    pairs = [(shortened(truth, 60), shortened(seen, 60), count) for truth, seen, count in most_confused(diagnosis)]
    text = (
        f"Of {objects} objects, {right} are detected as their class, {objects - right - missed} as another class, and "
        f"{missed} are missed. {false} detections find background."
    )
    plots = [
        _plot(draw_precision_recall(diagnosis), "Precision over recall", "pr-"),
        _plot(draw_f1(diagnosis), "F1 over confidence", "f1-"),
    ]
    calibrated = [_plot(draw_reliability(diagnosis.reliability), "Precision over confidence", "reliability-")]
    if diagnosis.deviations is not None:
        title = "Errors of sides over their predicted deviation"
        calibrated.append(_plot(draw_calibration(diagnosis.deviations), title, "deviation-"))
    return {
        "diagnosis": True,
        "confidence": f"{diagnosis.confidence:.3f}",
        "measured": printable(diagnosis.measured),
        "confidence_plots": plots,
        "confusion": {"classes": background, "text": text, "pairs": pairs},
        "confusion_plot": _plot(draw_confusion(diagnosis), "Confusion matrix", "confusion-", natural=True)
        if background <= MOST_DRAWN
        else None,
        "worst": [
            (
                printable(image.file_name),
                image.missed + image.false + image.confused,
                image.missed,
                image.false,
                image.confused,
                image.right,
            )
            for image in diagnosis.worst
        ],
        "pictures": _pictures(folder, name, diagnosis),
        "calibration_text": _calibration_text(diagnosis),
        "calibration_plots": calibrated,
    }


def _plot(figure: "Figure", title: str, prefix: str, *, natural: bool = False) -> str:
    """Return a figure as HTML; with `natural`, at its own size, for an area that scrolls."""
    svg = inline_svg(figure, title, prefix)
    if natural:
        width, height = (round(96 * side) for side in figure.get_size_inches())
        svg = svg.replace("<svg ", f'<svg width="{width}" height="{height}" ', 1)
    return svg


def _headline(run: Run, name: str, scores: Row) -> str:
    if name != "best":
        found = "no scores" if scores.get("ap") is None else f"AP {report_tables.percent(scores['ap'])}"
        return f"Evaluation {printable(name)}: {found}."
    end = printable(describe_end(run).replace("`", ""))
    if scores.get("ap") is None:
        return f"Not scored yet. {end}".strip()
    trained, planned = max(rows[-1]["epoch"] for rows in run.metrics if rows), run.config.get("epochs")
    of = f" of {planned}" if isinstance(planned, int) else ""
    text = (
        f"Best AP {report_tables.percent(scores['ap'])} at epoch {scores['epoch']:g}. {round(trained, 1):g}{of} epochs "
        f"are trained. {end}"
    )
    return f"{text.strip()} The best epoch was chosen on the validation split, so its score is optimistic."


def _pictures(folder: Path, name: str, diagnosis: Diagnosis) -> list[dict[str, str]]:
    pictures = []
    for image, file in zip(diagnosis.worst, worst_files(folder, name, diagnosis), strict=True):
        if file is not None:
            counts = (
                f"{image.missed} missed, {image.false} false, {image.confused} in another class, {image.right} right"
            )
            pictures.append(
                {
                    "data": f"data:image/jpeg;base64,{b64encode(file.read_bytes()).decode()}",
                    "caption": f"{printable(image.file_name)}: {counts}",
                }
            )
    return pictures


def _calibration_text(diagnosis: Diagnosis) -> str:
    if math.isnan(diagnosis.reliability.error):
        return "No detection has a score above 0.05, so there is nothing to calibrate."
    text = (
        f"Scores: precision differs from the confidence by {100 * diagnosis.reliability.error:.1f} % on average "
        f"(expected calibration error, {counted(int(diagnosis.reliability.count.sum()), 'detection')} with a score "
        "above 0.05)."
    )
    if diagnosis.deviations is None:
        return f"{text} Deviations of box sides: not predicted by the objective, or without a match."
    return (
        f"{text} Box sides: their errors are {diagnosis.deviations.factor:.2f} times the predicted standard deviation; "
        "1 is calibrated."
    )
