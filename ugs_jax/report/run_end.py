"""End of a run: as planned, early because the scores no longer improved, or not reached yet."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ugs_jax.report.run_log import Run

Ending = Literal["finished", "early", "unfinished"]
"""End of a run: after all epochs, out of patience, or stopped before (or still running)."""


def evaluations_since_best(evaluations: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of evaluations after the one with the highest AP, the earliest among equals.

    Args:
      evaluations: Scores of all evaluations of a run, in order. An AP of None counts as 0.
    """
    best, since = -1.0, 0
    for scores in evaluations:
        ap = scores.get("ap") or 0.0
        best, since = (ap, 0) if ap > best else (best, since + 1)
    return since


def out_of_patience(evaluations: Iterable[Mapping[str, Any]], patience: int | None) -> bool:
    """Return True if a run ends early.

    Args:
      evaluations: Scores of all evaluations of the run, in order.
      patience: Number of evaluations without a better AP after which a run ends; None for no limit.
    """
    return patience is not None and evaluations_since_best(evaluations) >= patience


def ending_of(run: Run, epochs: int | None = None, patience: int | None = None) -> Ending:
    """Return how a run ended: `finished`, `early` (out of patience), or `unfinished` (stopped, or still running).

    Args:
      run: Run to look at.
      epochs: Number of epochs of the plan; None for that of the run's config.
      patience: Patience of the plan, if `epochs` is given.
    """
    if epochs is None:
        recorded = run.config.get("experiment")  # missing from damaged files
        epochs, patience = run.config.get("epochs"), recorded.get("patience") if isinstance(recorded, dict) else None
    if run.last is None or epochs is None:
        return "unfinished"
    if run.last["epoch"] >= epochs:
        return "finished"
    return "early" if out_of_patience(run.metrics.evaluations, patience) else "unfinished"


def describe_end(run: Run) -> str:
    """Return sentences about the end of a run and its extensions; empty for a run that ended as first planned."""
    planned = run.config.get("epochs")
    if planned is None:
        return ""
    sentences = [
        f"Extended from {each['epochs']} to {each['to_epochs']} epochs after step {each['step']} (epoch "
        f"{each['epoch']:g}). From there the learning rate follows the schedule of {each['to_epochs']} epochs."
        for each in run.config.get("extensions", ())
    ]
    ending, rows = ending_of(run), [*run.metrics.train, *run.metrics.evaluations]
    last = max(rows, key=lambda row: row["step"], default={"step": 0, "epoch": 0})
    if ending == "early":
        patience = run.config["experiment"]["patience"]
        sentences.append(
            f"Ended early, at epoch {last['epoch']:g} of {planned}: AP was not better for {patience} "
            f"{'evaluation' if patience == 1 else 'evaluations'} (`patience`). To continue, add `--resume` and a "
            "larger `--patience`."
        )
    elif ending == "unfinished":
        sentences.append(
            f"Not finished: the last row of the log is of step {last['step']}, epoch {last['epoch']:g} of {planned}. "
            "The run was stopped, or it is still running. To continue a stopped run, add `--resume`."
        )
    return " ".join(sentences)
