"""Scores of detections by COCO's, VisDrone's and other protocols, and files of results."""

from ugs_jax.evaluation.benchmarks import AI_TOD, BENCHMARKS, COCO, SODA_D, TINY_PERSON
from ugs_jax.evaluation.coco import AnnotatedDataset, CocoScorer
from ugs_jax.evaluation.detections import ImageDetections
from ugs_jax.evaluation.other_libraries import from_fiftyone, from_supervision, to_fiftyone, to_supervision
from ugs_jax.evaluation.protocol import AI_TOD_BINS, COCO_BINS, DEFAULT_PROTOCOL, Protocol, SizeBin
from ugs_jax.evaluation.results import (
    BatchGeometry,
    CocoRow,
    DetectionArrays,
    coco_rows,
    rows_by_score,
    rows_from_detections,
    split_batch,
    to_original,
)
from ugs_jax.evaluation.scorers import Scorer, VisDroneScorer, visdrone_truth
from ugs_jax.evaluation.submission import read_submission, write_submission
from ugs_jax.evaluation.visdrone import TruthImage, visdrone_scores, visdrone_table

__all__ = [
    "AI_TOD",
    "AI_TOD_BINS",
    "BENCHMARKS",
    "COCO",
    "COCO_BINS",
    "DEFAULT_PROTOCOL",
    "SODA_D",
    "TINY_PERSON",
    "AnnotatedDataset",
    "BatchGeometry",
    "CocoRow",
    "CocoScorer",
    "DetectionArrays",
    "ImageDetections",
    "Protocol",
    "Scorer",
    "SizeBin",
    "TruthImage",
    "VisDroneScorer",
    "coco_rows",
    "from_fiftyone",
    "from_supervision",
    "read_submission",
    "rows_by_score",
    "rows_from_detections",
    "split_batch",
    "to_fiftyone",
    "to_original",
    "to_supervision",
    "visdrone_scores",
    "visdrone_table",
    "visdrone_truth",
    "write_submission",
]
