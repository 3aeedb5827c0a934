"""Reports of training runs: Markdown tables, plots, pictures of detections, and JSON."""

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
from ugs_jax.report.pictures import SheetRow, draw_contact_sheet, draw_detections
from ugs_jax.report.plots import plot_calibration, plot_comparison, plot_run, plot_sharpness, plot_wells
from ugs_jax.report.predictions import Prediction, write_contact_sheet, write_predictions
from ugs_jax.report.run_end import Ending, ending_of, evaluations_since_best, out_of_patience
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
from ugs_jax.report.run_report import write_report, write_run_report

__all__ = [
    "Ablation",
    "Comparison",
    "Ending",
    "Estimate",
    "MethodSummary",
    "Metrics",
    "Prediction",
    "Row",
    "Run",
    "RunError",
    "SheetRow",
    "StepCost",
    "ablate",
    "ablation_table",
    "compare",
    "comparison_table",
    "draw_contact_sheet",
    "draw_detections",
    "ending_of",
    "epochs_to_reach",
    "estimate",
    "evaluations_since_best",
    "group_by_name",
    "out_of_patience",
    "plot_calibration",
    "plot_comparison",
    "plot_run",
    "plot_sharpness",
    "plot_wells",
    "protocol_scores",
    "protocol_table",
    "read_groups",
    "read_metrics",
    "read_rows",
    "read_run",
    "series",
    "table_of",
    "write_contact_sheet",
    "write_predictions",
    "write_report",
    "write_run_report",
]
