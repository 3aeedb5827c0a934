"""Table of an ablation: scores, gradient variance, curvature, and cost of a training step."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ugs_jax.report.comparison import COLUMNS, Comparison, Estimate, compare, estimate
from ugs_jax.report.markdown import table_cell
from ugs_jax.report.run_log import Run, read_groups

UNDER_32 = ("very_tiny", "tiny", "small")
"""Names in the training log of the size classes of boxes under 32 px in the network's input."""


class StepCost(NamedTuple):
    """Cost of a training step, relative to a step of the baseline.

    Attributes:
      seconds: Median time of a step.
      time_ratio: Median time over the median time of the baseline.
      time_interval: 95 % interval of `time_ratio`.
      memory_ratio: Device memory of the compiled program over that of the baseline.
    """

    seconds: float
    time_ratio: float
    time_interval: tuple[float, float]
    memory_ratio: float


class Ablation(NamedTuple):
    """Results of an ablation, by method.

    Attributes:
      comparison: Scores of the methods.
      gradient_variance: Variance of the gradient's norm over its squared mean, for positives under 32 px.
      curvature: Root mean square of the norm of the Hessian with respect to the raw outputs of a box, for positives
        under 32 px.
      costs: Cost of a step. Methods that were not measured are missing.
    """

    comparison: Comparison
    gradient_variance: dict[str, Estimate | None]
    curvature: dict[str, Estimate | None]
    costs: dict[str, StepCost]

    def json(self) -> dict[str, Any]:
        """Return all results as plain values for `json.dumps`."""
        plain = lambda values: {  # noqa: E731
            name: None if value is None else {"mean": value.mean, "spread": value.spread}
            for name, value in values.items()
        }
        return {
            "comparison": self.comparison.json(),
            "gradient_variance_under_32_px": plain(self.gradient_variance),
            "curvature_under_32_px": plain(self.curvature),
            "costs": {name: cost._asdict() for name, cost in self.costs.items()},
        }


def ablate(groups: Mapping[str, Sequence[Path]], costs: Mapping[str, StepCost] | None = None) -> Ablation:
    """Summarise the runs of an ablation.

    Args:
      groups: Run folders by method, the baseline first.
      costs: Cost of a step, by method.

    Raises:
      RunError: Runs cannot be read, or cannot be compared fairly.
    """
    runs = read_groups(groups)
    of = lambda measure: {  # noqa: E731
        name: estimate(value for run in members if (value := under_32(run, measure)) is not None)
        for name, members in runs.items()
    }
    return Ablation(compare(runs), of("gradient_variance"), of("curvature"), dict(costs or {}))


def under_32(run: Run, measure: str) -> float | None:
    """Return a measure of `training.sharpness` for boxes under 32 px, or None if it was not logged.

    Each logged row gives the mean over its size classes. The result is the median over the second half of these rows.
    The first half is left out because the methods then still differ in what they have learned, not only in their
    gradients.

    Args:
      run: Run with its log.
      measure: Name of the measure, such as `curvature`.
    """
    rows = [
        [row[key] for size in UNDER_32 if row.get(key := f"{measure}_{size}") is not None] for row in run.metrics.train
    ]
    means = [statistics.fmean(row) for row in rows if row]
    return statistics.median(means[len(means) // 2 :]) if means else None


def ablation_table(ablation: Ablation) -> str:
    """Return the ablation as a Markdown table, followed by the definitions of its columns."""
    methods = ablation.comparison.methods
    present = [key for key in COLUMNS if any(key in method.scores for method in methods)]
    header = ["method", "seeds", *(COLUMNS[key] for key in present), "gradient variance", "curvature"]
    header += ["step time", "memory"] if ablation.costs else []
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for method in methods:
        cells = [table_cell(method.name), str(len(method.seeds))]
        cells += [method.scores[key].text(100) if key in method.scores else "–" for key in present]
        for values in (ablation.gradient_variance, ablation.curvature):
            value = values[method.name]
            cells.append("–" if value is None else value.text(digits=2))
        if ablation.costs:
            cells += _cost_cells(ablation.costs.get(method.name))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _definitions(ablation)]) + "\n"


def _cost_cells(cost: StepCost | None) -> list[str]:
    if cost is None:
        return ["–", "–"]
    low, high = cost.time_interval
    interval = f" [{low:.2f}, {high:.2f}]" if low != high else ""
    return [f"{cost.time_ratio:.2f}{interval}", f"{cost.memory_ratio:.2f}"]


def _definitions(ablation: Ablation) -> str:
    baseline = ablation.comparison.methods[0].name
    text = (
        "AP in %, for each run at its epoch of best AP on the validation split; mean ± sample standard deviation over "
        "seeds. Gradient variance and curvature describe the localization loss of positives under 32 px (in the "
        "network's input) in the second half of training. Gradient variance is the variance of the gradient's norm "
        "over its squared mean; a factor on the loss does not change it. Curvature is the root mean square of the norm "
        "of the Hessian with respect to the raw outputs of a box; a factor on the loss multiplies it."
    )
    if ablation.costs:
        seconds = ablation.costs[baseline].seconds if baseline in ablation.costs else None
        itself = "" if seconds is None else f" ({1e3 * seconds:.3g} ms)"
        text += (
            f" Step time is the median time of a step over that of {baseline}{itself}, measured in turns, with a 95 % "
            f"interval. Memory is the device memory of the compiled step over that of {baseline}."
        )
    return text
