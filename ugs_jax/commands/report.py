"""The command `ugs report`: the report of a run at any time."""

import sys

import tyro


def report_command(words: list[str]) -> None:
    """Run `ugs report`: write the report of a run."""
    tyro.cli(_report_run, args=words, prog="ugs report")


def _report_run(run: tyro.conf.Positional[str], predictions: bool = True) -> None:
    """Write report.md, report.html, curves.png and predictions.png of a run: finished, stopped, or still running.

    The pictures show the best checkpoint so far. If the data set or the checkpoint is missing here, the report is
    written without new predictions, and the reason is printed.

    Args:
      run: Run folder, or URL of a run. If the run uses classes or functions of yours, add `--import MODULE`
        or `--import FILE.py`.
      predictions: Draw predictions beside the ground truth. This loads the network and a few validation images.
    """
    from ugs_jax.report import write_run_report
    from ugs_jax.runs.remote.opened import opened_run
    from ugs_jax.training.finish import report_run

    which = ("best", "last") if predictions else ()
    with opened_run(run, *which, files=("curves.png", "predictions.png", "diagnosis_best.json")) as opened:
        missing = report_run(opened.folder) if predictions else None
        if not predictions:
            write_run_report(opened.folder)
    if missing is not None:
        print(f"no new predictions: {missing}", file=sys.stderr)
    page = opened.shown(opened.folder / "report.html")
    print(f"report: {opened.shown(opened.folder / 'report.md')}  page: {page}")
