"""Scoring detections and writing them down."""

from ugs_jax.evaluation.coco import AnnotatedDataset, CocoScorer
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
    "Protocol",
    "SizeBin",
    "coco_rows",
    "rows_from_detections",
    "split_batch",
    "to_original",
]
