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
from ugs_jax.report.data_check import data_check_text, data_check_values
from ugs_jax.report.data_sheet import SheetPanel, draw_data_sheet, sheet_panels
from ugs_jax.report.diagnosis import (
    ClassDiagnosis,
    Diagnosis,
    Outcome,
    SizeDiagnosis,
    WorstImage,
    diagnose,
)
from ugs_jax.report.diagnosis_file import read_diagnosis, write_diagnosis
from ugs_jax.report.evaluation_report import write_evaluation_report
from ugs_jax.report.html_report import write_html_report
from ugs_jax.report.pictures import SheetRow, draw_contact_sheet, draw_detections, draw_frame
from ugs_jax.report.plots import (
    plot_calibration,
    plot_comparison,
    plot_diagnosis,
    plot_run,
    plot_sharpness,
    plot_wells,
)
from ugs_jax.report.prediction import Frame, Prediction
from ugs_jax.report.predictions import WrittenPredictions, write_contact_sheet, write_predictions
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
from ugs_jax.report.worst_images import write_worst_images

__all__ = [
    "Ablation",
    "ClassDiagnosis",
    "Comparison",
    "Diagnosis",
    "Ending",
    "Estimate",
    "Frame",
    "MethodSummary",
    "Metrics",
    "Outcome",
    "Prediction",
    "Row",
    "Run",
    "RunError",
    "SheetPanel",
    "SheetRow",
    "SizeDiagnosis",
    "StepCost",
    "WorstImage",
    "WrittenPredictions",
    "ablate",
    "ablation_table",
    "compare",
    "comparison_table",
    "data_check_text",
    "data_check_values",
    "diagnose",
    "draw_contact_sheet",
    "draw_data_sheet",
    "draw_detections",
    "draw_frame",
    "ending_of",
    "epochs_to_reach",
    "estimate",
    "evaluations_since_best",
    "group_by_name",
    "out_of_patience",
    "plot_calibration",
    "plot_comparison",
    "plot_diagnosis",
    "plot_run",
    "plot_sharpness",
    "plot_wells",
    "protocol_scores",
    "protocol_table",
    "read_diagnosis",
    "read_groups",
    "read_metrics",
    "read_rows",
    "read_run",
    "series",
    "sheet_panels",
    "table_of",
    "write_contact_sheet",
    "write_diagnosis",
    "write_evaluation_report",
    "write_html_report",
    "write_predictions",
    "write_report",
    "write_run_report",
    "write_worst_images",
]
