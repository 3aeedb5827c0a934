"""How hard each part of the loss pulls at the trunk: for the log.

The three parts share backbone and neck. Where one pulls much harder than the others, it owns what they share, and the
others are learned badly: that is what gains are to be balanced by.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax.detectors import Outputs, RunsHeads, TrainableDetector
from ugs_jax.detectors.protocol import Tree
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.training.objective import objective

_PARTS = ("box", "objectness", "classes")
FEATURE_GRADIENTS = tuple(f"feature_gradient_{part}" for part in _PARTS)
"""Names in the log."""


def feature_gradient_norms(
    detector: TrainableDetector, params: Tree, stats: Tree, outputs: Outputs, batch: Batch, loss_weights: LossWeights
) -> dict[str, Float[Array, ""]]:
    """Return the norm of the gradient of each weighted part of the loss by the features that the heads see.

    Only the heads are differentiated, so it costs a small part of a step. NaN for detectors that cannot run their heads
    alone (`RunsHeads`).

    Args:
      detector: What is trained.
      params: Its parameters.
      stats: Its batch statistics.
      outputs: Outputs of the network for the batch.
      batch: Boxes, labels and ignore regions.
      loss_weights: Weights of the loss.
    """
    if not isinstance(detector, RunsHeads):
        return dict.fromkeys(FEATURE_GRADIENTS, jnp.full((), jnp.nan))
    features = tuple(level.features for level in outputs.levels)

    def parts(features: tuple[Array, ...]) -> list[Array]:
        again = detector.apply_heads(params, stats, features)
        _, named = objective(again, batch, detector.localization, detector.arch, loss_weights)
        return [named[part] for part in _PARTS]

    values, pull_back = jax.vjp(parts, features)
    norms = {}
    for i, name in enumerate(FEATURE_GRADIENTS):
        (gradient,) = pull_back([jnp.ones_like(value) * (i == k) for k, value in enumerate(values)])
        norms[name] = optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradient))
    return norms
