"""Detectors that work with any localization objective.

`Detector` combines the network and the objective. `assignment`, `sparse`, `decode` and `anchors` hold the pure
functions around it.
"""

from ugs_jax.detectors.anchors import best_possible_recall, fit_anchors
from ugs_jax.detectors.architecture import COCO_ANCHORS, Architecture
from ugs_jax.detectors.assigner import Assigner, Assignment, Cells
from ugs_jax.detectors.assignment import Candidates, assign, background, candidate_anchors, learnable
from ugs_jax.detectors.auto_anchors import auto_anchors
from ugs_jax.detectors.cells import anchors_of_cells, candidates_by_level
from ugs_jax.detectors.center_sampling import CenterSampling
from ugs_jax.detectors.decode import (
    Detections,
    LocalizedCandidates,
    Postprocess,
    class_scores,
    detect,
    localize_candidates,
    suppress,
)
from ugs_jax.detectors.detector import Detector, network_shapes
from ugs_jax.detectors.levels import HasPyramid, Level, Localizer, Pyramid
from ugs_jax.detectors.network import Network
from ugs_jax.detectors.protocol import (
    ChoosesCells,
    DetectorConfig,
    FixesStatistics,
    Outputs,
    RunsHeads,
    StartsFromWeights,
    TrainableDetector,
)
from ugs_jax.detectors.receptive_field import ReceptiveField
from ugs_jax.detectors.sparse import gather, localize, localize_again, predicted_quality
from ugs_jax.detectors.task_aligned import TaskAligned
from ugs_jax.detectors.tph import TPH, TPHCBAM, TPHPlus
from ugs_jax.detectors.yolo26 import YOLO26
from ugs_jax.detectors.yolov5 import YOLOv5
from ugs_jax.detectors.yolov5u import YOLOv5u
from ugs_jax.detectors.yolov8 import YOLO11, YOLO11LinearPool, YOLOv8, YOLOv8LinearPool

__all__ = [
    "COCO_ANCHORS",
    "TPH",
    "TPHCBAM",
    "YOLO11",
    "YOLO26",
    "Architecture",
    "Assigner",
    "Assignment",
    "Candidates",
    "Cells",
    "CenterSampling",
    "ChoosesCells",
    "Detections",
    "Detector",
    "DetectorConfig",
    "FixesStatistics",
    "HasPyramid",
    "Level",
    "LocalizedCandidates",
    "Localizer",
    "Network",
    "Outputs",
    "Postprocess",
    "Pyramid",
    "ReceptiveField",
    "RunsHeads",
    "StartsFromWeights",
    "TPHPlus",
    "TaskAligned",
    "TrainableDetector",
    "YOLO11LinearPool",
    "YOLOv5",
    "YOLOv5u",
    "YOLOv8",
    "YOLOv8LinearPool",
    "anchors_of_cells",
    "assign",
    "auto_anchors",
    "background",
    "best_possible_recall",
    "candidate_anchors",
    "candidates_by_level",
    "class_scores",
    "detect",
    "fit_anchors",
    "gather",
    "learnable",
    "localize",
    "localize_again",
    "localize_candidates",
    "network_shapes",
    "predicted_quality",
    "suppress",
]
