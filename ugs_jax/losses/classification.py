"""Losses on objectness and class scores, element by element."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

from ugs_jax.numerics import LOGIT_LIMIT, Scalar, narrow, widen

_MISS_FLOOR = 1e-12


def sigmoid_cross_entropy(logits: Float[Array, "*#batch"], targets: Float[Array, "*#batch"]) -> Float[Array, "*#batch"]:
    """Binary cross entropy −t log σ(z) − (1−t) log(1 − σ(z)), computed from logits without forming σ.

    Args:
      logits: Unnormalised scores. Values beyond ±1e30, infinities included, are clipped.
      targets: Targets in [0, 1]: hard labels, smoothed labels, or the IoU of the box.

    Returns:
      Unreduced loss.

    Example:
      >>> import jax.numpy as jnp
      >>> print(sigmoid_cross_entropy(jnp.array([0.0, 100.0]), jnp.array([1.0, 1.0])))
      [0.6931472 0.       ]
    """
    scores, goals = _widened(logits, targets)
    return narrow(optax.sigmoid_binary_cross_entropy(scores, goals), logits, targets)


def sigmoid_focal(
    logits: Float[Array, "*#batch"], targets: Float[Array, "*#batch"], *, alpha: Scalar = 0.25, gamma: Scalar = 2.0
) -> Float[Array, "*#batch"]:
    """Focal loss: α_t (1 − p_t)^γ times the cross entropy, so that easy elements have little weight.

    Args:
      logits: Unnormalised scores.
      targets: Targets in [0, 1]. Between hard labels, p_t and α_t are interpolated.
      alpha: Weight of positives, in [0, 1]. Negatives have the weight 1 − α.
      gamma: Focusing exponent, ≥ 0. With 0 the loss is the weighted cross entropy.

    Returns:
      Unreduced loss. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5.

    Raises:
      ValueError: `alpha` or `gamma` is out of range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a weight in [0, 1], got {alpha}")
    if not gamma >= 0:
        raise ValueError(f"gamma: expected an exponent >= 0, got {gamma}")
    scores, goals = _widened(logits, targets)
    # 1 − p_t, from σ(−z) and σ(z) so that neither tail cancels; the floor keeps fractional powers differentiable at 0.
    missed = jnp.maximum(goals * jax.nn.sigmoid(-scores) + (1 - goals) * jax.nn.sigmoid(scores), _MISS_FLOOR)
    weight = alpha * goals + (1 - alpha) * (1 - goals)
    return narrow(weight * missed**gamma * optax.sigmoid_binary_cross_entropy(scores, goals), logits, targets)


def _widened(logits: Array, targets: Array) -> tuple[Array, Array]:
    scores, goals = widen(logits, targets)
    return jnp.clip(scores, -LOGIT_LIMIT, LOGIT_LIMIT), goals
