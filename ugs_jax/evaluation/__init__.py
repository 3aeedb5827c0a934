"""Scoring detections and writing them down."""

from ugs_jax.evaluation.coco import AnnotatedDataset, CocoScorer
from ugs_jax.evaluation.draw import SheetRow, draw_contact_sheet, draw_detections
from ugs_jax.evaluation.predict import Prediction, write_contact_sheet, write_predictions
from ugs_jax.evaluation.protocol import AI_TOD_BINS, COCO_BINS, DEFAULT_PROTOCOL, Protocol, SizeBin
from ugs_jax.evaluation.results import (
    BatchGeometry,
    CocoRow,
    DetectionArrays,
    ImageDetections,
    coco_rows,
    rows_from_detections,
    split_batch,
    to_original,
)

__all__ = [
    "AI_TOD_BINS",
    "COCO_BINS",
    "DEFAULT_PROTOCOL",
    "AnnotatedDataset",
    "BatchGeometry",
    "CocoRow",
    "CocoScorer",
    "DetectionArrays",
    "ImageDetections",
    "Prediction",
    "Protocol",
    "SheetRow",
    "SizeBin",
    "coco_rows",
    "draw_contact_sheet",
    "draw_detections",
    "rows_from_detections",
    "split_batch",
    "to_original",
    "write_contact_sheet",
    "write_predictions",
]
