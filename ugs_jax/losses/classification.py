"""Losses on objectness and class scores, element by element."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

from ugs_jax.numerics import Scalar, narrow, widen

_LOGIT_LIMIT = 1e30
_MISS_FLOOR = 1e-12


def sigmoid_cross_entropy(logits: Float[Array, "*#batch"], targets: Float[Array, "*#batch"]) -> Float[Array, "*#batch"]:
    """−t log σ(z) − (1−t) log(1 − σ(z)), never by way of σ itself.

    Args:
      logits: scores; beyond ±1e30, infinities included, they are clipped.
      targets: in [0, 1]: hard labels, smoothed ones, or the IoU of the box.

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
    """α_t (1 − p_t)^γ times the cross entropy: easy elements weigh little.

    Args:
      logits: scores.
      targets: in [0, 1]; between hard labels p_t and α_t are interpolated.
      alpha: weight of positives, in [0, 1]; negatives weigh 1 − α.
      gamma: focusing exponent, ≥ 0; 0 leaves the weighted cross entropy.

    Returns:
      Unreduced loss. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5.

    Raises:
      ValueError: `alpha` or `gamma` out of range.
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
    return jnp.clip(scores, -_LOGIT_LIMIT, _LOGIT_LIMIT), goals
