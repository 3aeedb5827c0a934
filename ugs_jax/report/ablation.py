"""The table of an ablation: scores, how unequally and how steeply the objective pulls, what a step costs."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ugs_jax.report.comparison import COLUMNS, Comparison, Estimate, compare, estimate
from ugs_jax.report.run_log import Run, read_groups

UNDER_32 = ("very_tiny", "tiny", "small")
"""Sizes, as the log of training names them, of boxes under 32 px in the network's input."""


class StepCost(NamedTuple):
    """What a step costs over a step of a baseline.

    Attributes:
      seconds: median.
      time_ratio: of medians.
      time_interval: its 95 % interval.
      memory_ratio: of what the compiled programs take of a device.
    """

    seconds: float
    time_ratio: float
    time_interval: tuple[float, float]
    memory_ratio: float


class Ablation(NamedTuple):
    """What an ablation found, by method.

    Attributes:
      comparison: scores.
      gradient_variance: of positives under 32 px: variance of the gradient's norm over its squared mean.
      curvature: of the same: root mean square of the Hessian's norm, by the raw outputs of a box.
      costs: of a step, where they were measured.
    """

    comparison: Comparison
    gradient_variance: dict[str, Estimate | None]
    curvature: dict[str, Estimate | None]
    costs: dict[str, StepCost]

    def json(self) -> dict[str, Any]:
        """Everything as plain values for `json.dumps`."""
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
    """Reads the runs of an ablation.

    Args:
      groups: run folders by method, the baseline first.
      costs: of steps, by method.

    Raises:
      RunError: for runs that cannot be read or fairly compared.
    """
    runs = read_groups(groups)
    of = lambda measure: {  # noqa: E731
        name: estimate(value for run in members if (value := under_32(run, measure)) is not None)
        for name, members in runs.items()
    }
    return Ablation(compare(runs), of("gradient_variance"), of("curvature"), dict(costs or {}))


def under_32(run: Run, measure: str) -> float | None:
    """A measure of `training.sharpness` for boxes under 32 px, or None where the log has none.

    The mean over the sizes that a row has, then the median over the second half of those rows: in the first,
    methods differ in what they have learned, and not only in how they pull.
    """
    rows = [
        [row[key] for size in UNDER_32 if row.get(key := f"{measure}_{size}") is not None] for row in run.metrics.train
    ]
    means = [statistics.fmean(row) for row in rows if row]
    return statistics.median(means[len(means) // 2 :]) if means else None


def ablation_table(found: Ablation) -> str:
    """The ablation as a Markdown table with the definitions of its columns below."""
    methods = found.comparison.methods
    present = [key for key in COLUMNS if any(key in method.scores for method in methods)]
    header = ["method", "seeds", *(COLUMNS[key] for key in present), "gradient variance", "curvature"]
    header += ["step time", "memory"] if found.costs else []
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for method in methods:
        cells = [method.name.replace("|", "\\|"), str(len(method.seeds))]
        cells += [method.scores[key].text(100) if key in method.scores else "–" for key in present]
        for values in (found.gradient_variance, found.curvature):
            value = values[method.name]
            cells.append("–" if value is None else value.text(digits=2))
        if found.costs:
            cells += _cost_cells(found.costs.get(method.name))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _definitions(found)]) + "\n"


def _cost_cells(cost: StepCost | None) -> list[str]:
    if cost is None:
        return ["–", "–"]
    low, high = cost.time_interval
    interval = f" [{low:.2f}, {high:.2f}]" if low != high else ""
    return [f"{cost.time_ratio:.2f}{interval}", f"{cost.memory_ratio:.2f}"]


def _definitions(found: Ablation) -> str:
    baseline = found.comparison.methods[0].name
    text = (
        "AP in %, each run at its epoch of best AP on the validation split; mean ± sample standard deviation over "
        "seeds. Gradient variance and curvature are of the localization loss of positives under 32 px (in the "
        "network's input), over the second half of training: variance of the gradient's norm over its squared mean, "
        "which no factor on the loss changes, and root mean square of the norm of its Hessian by the raw outputs of a "
        "box, which a factor on the loss changes as much as the loss."
    )
    if found.costs:
        seconds = found.costs[baseline].seconds if baseline in found.costs else None
        itself = "" if seconds is None else f" ({1e3 * seconds:.3g} ms)"
        text += (
            f" Step time is the median over that of {baseline}{itself}, timed in turns, with its 95 % interval; memory "
            "what the compiled step takes, over the same."
        )
    return text
