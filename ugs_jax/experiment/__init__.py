"""Experiments as immutable values: configuration, its JSON form, and anchors and grids fitted to the data."""

from ugs_jax.experiment.class_weights import balanced_weights, with_class_weights
from ugs_jax.experiment.config import Ema, Experiment, Network, detector_with
from ugs_jax.experiment.fitting import Fitted, anchors_for, build_detector, fit_to, fitted_detector
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.experiment.optimizer import SGD, AdamW, LearningRate, OptaxChain, Optimizer, Schedule, Stabilize
from ugs_jax.experiment.parallel import Parallel
from ugs_jax.experiment.registry import register_module
from ugs_jax.experiment.serialize import from_json, to_json
from ugs_jax.experiment.target_recall import TargetRecall, target_recall

__all__ = [
    "SGD",
    "AdamW",
    "Ema",
    "Experiment",
    "Fitted",
    "LearningRate",
    "LossWeights",
    "Network",
    "OptaxChain",
    "Optimizer",
    "Parallel",
    "Schedule",
    "Stabilize",
    "TargetRecall",
    "anchors_for",
    "balanced_weights",
    "build_detector",
    "detector_with",
    "fit_to",
    "fitted_detector",
    "from_json",
    "register_module",
    "target_recall",
    "to_json",
    "with_class_weights",
]
