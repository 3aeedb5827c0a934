"""What runs say about themselves and each other, in Markdown and JSON."""

from ugs_jax.report.ablation import Ablation, StepCost, ablate, ablation_table
from ugs_jax.report.comparison import (
    Comparison,
    Estimate,
    MethodSummary,
    compare,
    comparison_table,
    epochs_to_reach,
    estimate,
    protocol_scores,
    protocol_table,
    table_of,
)
from ugs_jax.report.run_log import (
    Metrics,
    Row,
    Run,
    RunError,
    group_by_name,
    read_groups,
    read_metrics,
    read_rows,
    read_run,
    series,
)
from ugs_jax.report.run_report import write_report

__all__ = [
    "Ablation",
    "Comparison",
    "Estimate",
    "MethodSummary",
    "Metrics",
    "Row",
    "Run",
    "RunError",
    "StepCost",
    "ablate",
    "ablation_table",
    "compare",
    "comparison_table",
    "epochs_to_reach",
    "estimate",
    "group_by_name",
    "protocol_scores",
    "protocol_table",
    "read_groups",
    "read_metrics",
    "read_rows",
    "read_run",
    "series",
    "table_of",
    "write_report",
]
