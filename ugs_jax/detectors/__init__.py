"""Detectors: YOLOv5 that takes any localization objective, and the objectives, which any other detector can use.

`Detector` ties the parts together; `seam` is what it knows of objectives; `assignment`, `sparse`, `decode` and
`anchors` are pure functions around it.
"""

from ugs_jax.detectors.anchors import best_possible_recall, fit_anchors
from ugs_jax.detectors.architecture import COCO_ANCHORS, Architecture, Level, Localizer
from ugs_jax.detectors.assignment import Candidates, assign, background, candidate_anchors, learnable
from ugs_jax.detectors.auto_anchors import auto_anchors
from ugs_jax.detectors.decode import Detections, Postprocess, detect
from ugs_jax.detectors.detector import Detector, Outputs
from ugs_jax.detectors.localization import (
    Distribution,
    Interval,
    Regression,
)
from ugs_jax.detectors.seam import Localization, Terms
from ugs_jax.detectors.settings import FittedGrid, Grid, GridPoints, Refinement, Uncertainty
from ugs_jax.detectors.sparse import gather, localize

__all__ = [
    "COCO_ANCHORS",
    "Architecture",
    "Candidates",
    "Detections",
    "Detector",
    "Distribution",
    "FittedGrid",
    "Grid",
    "GridPoints",
    "Interval",
    "Level",
    "Localization",
    "Localizer",
    "Outputs",
    "Postprocess",
    "Refinement",
    "Regression",
    "Terms",
    "Uncertainty",
    "assign",
    "auto_anchors",
    "background",
    "best_possible_recall",
    "candidate_anchors",
    "detect",
    "fit_anchors",
    "gather",
    "learnable",
    "localize",
]
