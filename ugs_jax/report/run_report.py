"""The report of a run, report.md: command, scores, pictures, changed settings and environment."""

import contextlib
import json
from pathlib import Path

from ugs_jax.atomic import write_atomically
from ugs_jax.experiment.changes import changed_settings
from ugs_jax.report.html_report import write_html_report
from ugs_jax.report.markdown import table_cell
from ugs_jax.report.plots.run import plot_run
from ugs_jax.report.report_tables import environment
from ugs_jax.report.run_end import describe_end
from ugs_jax.report.run_log import Row, Run, RunError, read_run

_SCORES = (
    ("ap", "AP"),
    ("ap50", "AP50"),
    ("ap75", "AP75"),
    ("ap_very_tiny", "AP very tiny"),
    ("ap_tiny", "AP tiny"),
    ("ap_small", "AP small"),
    ("ap_medium", "AP medium"),
    ("ap_coco_small", "AP COCO small"),
    ("ap_coco_medium", "AP COCO medium"),
    ("ap_coco_large", "AP COCO large"),
    ("ar500", "AR, 500 detections"),
)
_PICTURES = (("curves.png", "Curves"), ("predictions.png", "Ground truth beside detections"))
_NOT_IN_SUMMARY = ("command", "protocol", "classes", "fitted_localization", "versions", "environment", "extensions")


def write_run_report(run_folder: Path) -> Path:
    """Write curves.png, report.md and report.html of a run from the files of its folder.

    The run may be finished, stopped, or still running. Curves are left out while the log has too few rows.

    Args:
      run_folder: Run folder of `ugs train`.

    Returns:
      Path of `report.md`.

    Raises:
      RunError: Configuration or metrics are missing or malformed. The message names file and line.
    """
    read_run(run_folder)  # names what is malformed
    with contextlib.suppress(RunError):  # nothing to plot yet
        plot_run(run_folder)
    path = write_report(run_folder)
    write_html_report(run_folder)
    return path


def write_report(run_folder: Path) -> Path:
    """Write `report.md` from the files of a run folder.

    The report shows `command` and `protocol` (the text of `Protocol.describe()`) of `config.json`, and says so if they
    were not recorded. Pictures are linked if they exist.

    Args:
      run_folder: Run folder of `ugs train`.

    Returns:
      Path of the report.

    Raises:
      RunError: Configuration or metrics are missing or malformed. The message names file and line.
    """
    run = read_run(run_folder)
    sections = [
        _headline(run),
        _scores_section(run),
        _training_section(run),
        _pictures_section(run),
        _config_section(run),
        _environment_section(run),
    ]
    path = Path(run_folder) / "report.md"
    write_atomically(path, ("\n\n".join(section for section in sections if section) + "\n").encode())
    return path


def _headline(run: Run) -> str:
    command = run.config.get("command")
    lines = [f"# {run.name}, seed {run.seed}", ""]
    if run.best is not None:
        ap50 = run.best.get("ap50")
        also = f" (AP50 {_percent(ap50)})" if ap50 is not None else ""
        lines.append(f"Best AP **{_percent(run.best['ap'])}**{also} at epoch {run.best['epoch']:g}.")
    else:
        lines.append("Not scored yet.")
    if end := describe_end(run):
        lines += ["", end]
    lines += ["", "Run again with", "", f"    {command}"] if command else ["", "The command was not recorded."]
    return "\n".join(lines)


def _scores_section(run: Run) -> str:
    best, last = run.best, run.last
    if best is None or last is None:
        return ""
    rows = [(label, key) for key, label in _SCORES if key in best or key in last]
    rows += [(f"AP {key[3:]}", key) for key in best if key.startswith("ap/")]
    lines = [
        "## Scores",
        "",
        f"| % | best (epoch {best['epoch']:g}) | last (epoch {last['epoch']:g}) |",
        "|---|---:|---:|",
        *(f"| {table_cell(label)} | {_percent(best.get(key))} | {_percent(last.get(key))} |" for label, key in rows),
        "",
        f"Protocol: {run.config.get('protocol') or 'not recorded'}. A dash means that the validation split has no such "
        "objects. The best epoch was chosen on the validation split, so its score is optimistic.",
    ]
    return "\n".join(lines)


def _training_section(run: Run) -> str:
    if not run.metrics.train:
        return ""
    last = run.metrics.train[-1]
    shown = {key: value for key, value in last.items() if key not in ("kind", "step", "epoch") and value is not None}
    return "\n".join(
        [
            "## Training",
            "",
            f"{last['step']} steps, {last['epoch']:g} epochs. Values of the last logged step:",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {table_cell(key.replace('_', ' '))} | {_number(value)} |" for key, value in shown.items()),
        ]
    )


def _pictures_section(run: Run) -> str:
    pictures = [(file, title) for file, title in _PICTURES if (run.folder / file).is_file()]
    return "\n\n".join(f"## {title}\n\n![{title}]({file})" for file, title in pictures)


def _config_section(run: Run) -> str:
    experiment = run.config.get("experiment")
    if experiment is None:
        return _whole_config(run)
    rows = [f"| {' | '.join(map(table_cell, setting))} |" for setting in changed_settings(experiment)]
    anchors = run.config.get("anchors")
    if anchors:
        rows.append(f"| anchors of this run, px | {table_cell(json.dumps(anchors))} | fitted to the data set |")
    return "\n".join(
        [
            "## Configuration",
            "",
            "Settings that differ from the defaults. All others have their defaults. Everything is in "
            "[config.json](config.json).",
            "",
            "| setting | value | default |",
            "|---|---|---|",
            *rows,
        ]
    )


def _environment_section(run: Run) -> str:
    rows = [f"| {table_cell(name)} | {table_cell(value)} |" for name, value in environment(run)]
    return "\n".join(["## Environment", "", "| | |", "|---|---|", *rows]) if rows else ""


def _whole_config(run: Run) -> str:
    flat = _flatten({key: value for key, value in run.config.items() if key not in _NOT_IN_SUMMARY})
    rows = [f"| {table_cell(key)} | {table_cell(value)} |" for key, value in flat.items()]
    return "\n".join(
        ["## Configuration", "", "| | |", "|---|---|", *rows, "", "Full configuration: [config.json](config.json)."]
    )


def _flatten(config: Row, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
