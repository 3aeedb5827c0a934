"""Comparison of methods: mean and spread over seeds, and the epoch at which each reaches the baseline's best AP."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ugs_jax.report.markdown import table_cell
from ugs_jax.report.run_log import Row, Run, RunError, read_groups, series

COLUMNS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_very_tiny": "very tiny",
    "ap_tiny": "tiny",
    "ap_small": "small",
    "ap_medium": "medium",
}

NEARLY = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean over runs and its sample standard deviation.

    Attributes:
      mean: Mean over runs.
      spread: Sample standard deviation; None for a single run.
      count: Number of runs.
    """

    mean: float
    spread: float | None
    count: int

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """Return text such as `31.2 ± 0.4`, or `31.2` for a single run.

        Args:
          scale: Factor on mean and spread.
          digits: Digits after the point.
        """
        mean = f"{self.mean * scale:.{digits}f}"
        return mean if self.spread is None else f"{mean} ± {self.spread * scale:.{digits}f}"


@dataclasses.dataclass(frozen=True)
class MethodSummary:
    """Scores of the runs of one method.

    Attributes:
      name: Name of the method.
      baseline: Name of the method it is compared with: the first one with the same image size.
      target: Best AP of the baseline, mean over its seeds, in [0, 1].
      seeds: Seed of each run.
      scores: Scores by key, at each run's epoch of best AP, in [0, 1]. Keys without a value in any run are left out.
      reached: Number of runs whose AP reached the target.
      epochs_to_target: Epochs until the target was reached, over all runs. None if a run never reached it, because a
        mean over the other runs would flatter the method. For the baseline: the epoch of each run's own best AP.
      times_earlier: The baseline's epochs over this method's epochs; None if one of them is unknown.
      epochs_to_nearly: Epochs until 95 % of the target was reached, by the same rule for all methods, the baseline
        included. It depends less on a late, lucky evaluation of the baseline than `epochs_to_target`.
    """

    name: str
    baseline: str
    target: float
    seeds: tuple[int, ...]
    scores: dict[str, Estimate]
    reached: int
    epochs_to_target: Estimate | None
    times_earlier: float | None
    epochs_to_nearly: Estimate | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods compared with the baseline, which is the first method of each image size.

    Attributes:
      methods: Summaries of the methods, the baseline first.
      epochs: Epochs of the longest run, by method.
    """

    methods: tuple[MethodSummary, ...]
    epochs: dict[str, float]

    def json(self) -> dict[str, object]:
        """Return the comparison as plain values for `json.dumps`."""
        return dataclasses.asdict(self)


def estimate(values: Iterable[float]) -> Estimate | None:
    """Return mean and sample standard deviation. One value has no spread; without values the result is None."""
    values = list(values)
    if not values:
        return None
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def compare(runs: Mapping[str, Sequence[Run]]) -> Comparison:
    """Compare the runs of each method with the first method of its image size.

    Args:
      runs: Runs by method, the baseline first, from `read_groups`.

    Raises:
      RunError: A run was never scored.
    """
    for members in runs.values():
        for run in members:
            if run.best is None:
                raise RunError(
                    f"{run.folder}: expected a scored run, found no AP in its metrics; let it finish an epoch"
                )
    baselines: dict[str, str] = {}
    methods = []
    for name, members in runs.items():
        baseline = baselines.setdefault(members[0].image_size, name)
        target = statistics.fmean(_best(run)["ap"] for run in runs[baseline])
        own_best = estimate(float(_best(run)["epoch"]) for run in runs[baseline])
        reached = _reaching(members, target)
        epochs = own_best if name == baseline and target > 0 else _if_all(reached, members)
        methods.append(
            MethodSummary(
                name=name,
                baseline=baseline,
                target=target,
                seeds=tuple(run.seed for run in members),
                scores=_scores(members),
                reached=len(reached),
                epochs_to_target=epochs,
                times_earlier=own_best.mean / epochs.mean if own_best and epochs and epochs.mean > 0 else None,
                epochs_to_nearly=_if_all(_reaching(members, NEARLY * target), members),
            )
        )
    length = {
        name: max(float(run.metrics.evaluations[-1]["epoch"]) for run in members) for name, members in runs.items()
    }
    return Comparison(tuple(methods), length)


def epochs_to_reach(run: Run, target: float, key: str = "ap") -> float | None:
    """Return the epoch of the first evaluation with a score of at least `target`, or None.

    Args:
      run: Run with its evaluations.
      target: Score to be reached, in [0, 1].
      key: Name of the score.
    """
    epochs, values = series(run.metrics.evaluations, key)
    return next((epoch for epoch, value in zip(epochs, values, strict=True) if value >= target), None)


def comparison_table(groups: Mapping[str, Sequence[Path]]) -> str:
    """Return a Markdown table of several methods, with the number of seeds and the spread over them.

    Args:
      groups: Run folders by method, the baseline first.

    Raises:
      RunError: Runs cannot be read, or cannot be compared fairly.
    """
    return table_of(compare(read_groups(groups)))


def table_of(comparison: Comparison) -> str:
    """Return the comparison as a Markdown table, followed by the definitions of its columns."""
    present = [key for key in COLUMNS if any(key in method.scores for method in comparison.methods)]
    header = [
        "method",
        "seeds",
        *(COLUMNS[key] for key in present),
        "epochs to baseline's best",
        "times earlier",
        "epochs to 95 % of it",
    ]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for method in comparison.methods:
        scores = [method.scores[key].text(100) if key in method.scores else "–" for key in present]
        earlier = f"{method.times_earlier:.2f}" if method.times_earlier is not None else "–"
        nearly = method.epochs_to_nearly.text() if method.epochs_to_nearly is not None else "–"
        name = table_cell(method.name)
        lines.append(
            f"| {name} | {len(method.seeds)} | {' | '.join(scores)} | {_epochs_text(method)} | {earlier} | {nearly} |"
        )
    lines += ["", _definitions(comparison)]
    return "\n".join(lines) + "\n"


def protocol_scores(runs: Mapping[str, Sequence[Mapping[str, float | None]]]) -> dict[str, dict[str, Estimate]]:
    """Return mean and spread of each score over the runs of each method.

    Args:
      runs: Scores of each run by method, in [0, 1]. Scores of single classes (`ap/car`) are left out.

    Returns:
      Estimates by method and score. Scores without a value in any run are left out.
    """
    methods = {}
    for name, members in runs.items():
        keys = dict.fromkeys(key for scores in members for key in scores if "/" not in key)
        known = {key: [scores[key] for scores in members if scores.get(key) is not None] for key in keys}
        estimates = {
            key: estimate(float(value) for value in values if value is not None) for key, values in known.items()
        }
        methods[name] = {key: value for key, value in estimates.items() if value is not None}
    return methods


def protocol_table(methods: Mapping[str, Mapping[str, Estimate]], protocol: str, counted: str) -> str:
    """Return a Markdown table of the scores of one protocol, with a column for each method.

    Args:
      methods: Scores from `protocol_scores`.
      protocol: Name of the protocol.
      counted: Sentence without a full stop that describes the scores; written below the table.
    """
    header = ["score, %", *(table_cell(name) for name in methods)]
    lines = [f"## Best checkpoints by `{protocol}`", "", "| " + " | ".join(header) + " |"]
    lines.append("|---|" + "---:|" * len(methods))
    for key in dict.fromkeys(key for scores in methods.values() for key in scores):
        cells = [scores[key].text(100, 2) if key in scores else "–" for scores in methods.values()]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{counted}. Mean ± sample standard deviation over seeds.", ""])


def _reaching(runs: Sequence[Run], target: float) -> list[float]:
    """Return the epochs at which runs reach the target. Runs that never do are left out; a target of 0 gives []."""
    if target <= 0:
        return []
    return [epoch for epoch in (epochs_to_reach(run, target) for run in runs) if epoch is not None]


def _if_all(reached: Sequence[float], runs: Sequence[Run]) -> Estimate | None:
    return estimate(reached) if len(reached) == len(runs) else None


def _epochs_text(method: MethodSummary) -> str:
    if method.epochs_to_target is not None:
        return method.epochs_to_target.text(digits=1)
    if method.target <= 0:
        return "–"
    return f"reached by {method.reached} of {len(method.seeds)}"


def _definitions(comparison: Comparison) -> str:
    baselines = [method for method in comparison.methods if method.name == method.baseline]
    named = "; ".join(
        f"{method.name}, whose best AP is {method.target * 100:.1f} (mean over its seeds)" for method in baselines
    )
    each = " of each image size" if len(baselines) > 1 else ""
    text = (
        f"AP in %, for each run at its epoch of best AP on the validation split; mean ± sample standard deviation over "
        f"seeds, without spread for a single seed. Baseline{each}: {named}. Epochs of the baseline are the epochs of "
        "best AP of its seeds. Epochs of the other methods are those of the first evaluation that reaches the "
        "baseline's best AP."
    )
    if len({round(epochs, 2) for epochs in comparison.epochs.values()}) > 1:
        lengths = ", ".join(f"{name} {epochs:g}" for name, epochs in comparison.epochs.items())
        text += f" **The runs differ in length** (epochs: {lengths})."
    return text


def _best(run: Run) -> Row:
    """Return the best evaluation of a run. `compare` has checked that it exists."""
    return run.best or {}


def _scores(runs: Sequence[Run]) -> dict[str, Estimate]:
    keys = dict.fromkeys(key for run in runs for key in _best(run) if key.startswith(("ap", "ar")))
    estimates = {key: estimate(_best(run)[key] for run in runs if _best(run).get(key) is not None) for key in keys}
    return {key: value for key, value in estimates.items() if value is not None}
