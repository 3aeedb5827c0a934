"""Gradient norms of each part of the loss at the shared features, for the log.

The three parts of the loss share backbone and neck. If the gradient of one part is much larger than the others, it
dominates the shared layers, and the other parts are learned poorly. These norms help to balance the loss weights.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax.detectors import Outputs, RunsHeads, TrainableDetector
from ugs_jax.detectors.protocol import Tree
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.training.objective import has_objectness, objective

_PARTS = ("box", "objectness", "classes")
FEATURE_GRADIENTS = tuple(f"feature_gradient_{part}" for part in _PARTS)
"""Names of the metrics in the log."""


def feature_gradient_norms(
    detector: TrainableDetector, params: Tree, stats: Tree, outputs: Outputs, batch: Batch, loss_weights: LossWeights
) -> dict[str, Float[Array, ""]]:
    """Return the gradient norm of each weighted part of the loss with respect to the inputs of the heads.

    Only the heads are differentiated, so the cost is a small part of a step. The norms are NaN for detectors that
    cannot run their heads alone (`RunsHeads`), and for those whose boxes and classes have branches of their own.

    Args:
      detector: Detector in training.
      params: Parameters of the detector.
      stats: Batch statistics of the detector.
      outputs: Outputs of the network for the batch.
      batch: Boxes, labels and ignore regions.
      loss_weights: Weights of the loss.
    """
    if not isinstance(detector, RunsHeads) or not has_objectness(outputs):
        return dict.fromkeys(FEATURE_GRADIENTS, jnp.full((), jnp.nan))
    features = tuple(level.features for level in outputs.levels)

    def parts(features: tuple[Array, ...]) -> list[Array]:
        head_outputs = detector.apply_heads(params, stats, features)
        _, named = objective(head_outputs, batch, detector.localization, detector.arch, loss_weights)
        return [named[part] for part in _PARTS]

    values, pull_back = jax.vjp(parts, features)

    def norm(cotangents: list[Array]) -> Array:
        (gradient,) = pull_back(cotangents)
        return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)), gradient))

    # One after the other, so that the backward pass is compiled once.
    norms = jax.lax.map(norm, [jnp.eye(len(_PARTS), dtype=value.dtype)[i] for i, value in enumerate(values)])
    return dict(zip(FEATURE_GRADIENTS, norms, strict=True))
