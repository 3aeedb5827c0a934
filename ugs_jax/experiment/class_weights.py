"""Weights of the classes in the class loss: given, or balanced by the effective number of boxes."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from data_pipeline import Dataset
from ugs_jax.experiment.config import Experiment

BETA = 0.9999
"""Constant β of the effective number. Classes with far more than 1 / (1 − β) boxes have equal weights."""


def balanced_weights(counts: Int[np.ndarray, "classes"]) -> Float[np.ndarray, "classes"]:
    """Return weights in inverse proportion to the effective number of boxes, (1 − βⁿ) / (1 − β) for n boxes.

    Their mean over all boxes is 1, so that the class loss keeps its size. A class without boxes has the weight 1.

    Args:
      counts: Number of boxes of every class.

    References:
      Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019.
    """
    known = counts > 0
    inverse = np.where(known, (1 - BETA) / (1 - BETA ** np.where(known, counts, 1)), 0.0)
    return np.where(known, inverse * counts.sum() / max((inverse * counts).sum(), 1e-12), 1.0)


def with_class_weights(experiment: Experiment, dataset: Dataset) -> Experiment:
    """Return the experiment with a number for the weight of every class, if it weighs classes.

    Args:
      experiment: Experiment to be trained.
      dataset: Training images.

    Raises:
      ValueError: The config has another number of weights than the data set has classes.
    """
    given, classes = experiment.loss_weights.class_weights, dataset.classes
    if given == "balanced":
        counts = np.bincount(dataset.table.classes, minlength=len(classes))
        given = tuple(balanced_weights(counts).tolist())
    if given is not None and len(given) != len(classes):
        raise ValueError(
            f"loss_weights.class_weights: expected a number for each of the {len(classes)} classes "
            f"({', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}), got {len(given)}; give as many numbers in "
            'this order, or "balanced"'
        )
    return replace(experiment, loss_weights=replace(experiment.loss_weights, class_weights=given))
