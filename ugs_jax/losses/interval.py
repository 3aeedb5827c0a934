"""Losses on interval labels: cross entropy, and the entropies for uncertainty minimisation (UM).

Logits beyond ±1e30, infinities included, are clipped, so that no p · log p or label · log p becomes 0 · inf.
"""

import math

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

from ugs_jax.labels import Grid, check_bins, two_hot
from ugs_jax.numerics import LOGIT_LIMIT, magnitude, narrow, widen


def interval_cross_entropy(
    logits: Float[Array, "*batch bins"], offsets: Float[Array, "*batch"], grid: Grid
) -> Float[Array, "*batch"]:
    """Cross entropy between predicted and two-hot interval labels; |∂/∂logit| ≤ 1 for boxes of any size.

    Args:
      logits: Unnormalised scores of the grid points.
      offsets: Target offsets in the unit of `grid` (strides or anchor sides). They are clipped to its range.
      grid: Strictly increasing label positions, for example from `labels.interval_grid`.

    Returns:
      Unreduced loss, L_CE of Sun et al., ICCV 2025.

    Raises:
      ValueError: `logits` and `grid` have different numbers of bins.

    Example:
      >>> import jax.numpy as jnp
      >>> from ugs_jax.labels import interval_grid
      >>> print(interval_cross_entropy(jnp.zeros(11), jnp.array(0.3), interval_grid(2, 1, 10)))  # log 11
      2.3978953
    """
    check_bins(logits, grid)
    scores, targets = widen(logits, offsets)
    return narrow(optax.softmax_cross_entropy(_bounded(scores), two_hot(targets, grid)), logits, offsets)


def entropy(logits: Float[Array, "*batch bins"]) -> Float[Array, "*batch"]:
    """Entropy H(p) = −Σ p log p of p = softmax(logits), in nats: L_UM in mode `entropy`. Sun et al., ICCV 2025.

    Example:
      >>> import jax.numpy as jnp
      >>> print(entropy(jnp.array([0.0, 0.0, -65504.0], dtype=jnp.float16)))  # log 2
      0.6934
    """
    (scores,) = widen(logits)
    return narrow(_entropy(_bounded(scores)), logits)


def normalised_entropy(logits: Float[Array, "*batch bins"]) -> Float[Array, "*batch"]:
    """Entropy divided by its largest value, H(p)/log(bins), in [0, 1]: the uncertainty of a prediction.

    Raises:
      ValueError: There are fewer than two bins, so that the entropy is always 0.
    """
    bins = logits.shape[-1]
    if bins < 2:
        raise ValueError(f"logits: expected at least 2 bins on the last axis, got shape {logits.shape}")
    (scores,) = widen(logits)
    share = _entropy(_bounded(scores)) / math.log(bins)
    # Rounding may exceed 1: clip the value, and keep the gradient.
    return narrow(share - jax.lax.stop_gradient(jnp.maximum(share - 1.0, 0.0)), logits)


def entropy_gap(
    logits: Float[Array, "*batch bins"], offsets: Float[Array, "*batch"], grid: Grid
) -> Float[Array, "*batch"]:
    """Entropy gap |H(p) − H(p*)| to the two-hot label p*: L_UM in mode `match`, first version of arXiv 2303.01803.

    Cross entropy is least where p = p*, and the gap is 0 there. The plain entropy instead pulls predictions away from
    labels between two grid points. The gradient is 0 where the entropies are equal.

    Args:
      logits: Unnormalised scores of the grid points.
      offsets: Target offsets in the unit of `grid`. They are clipped to its range.
      grid: Strictly increasing label positions.

    Returns:
      Unreduced loss, nats.

    Raises:
      ValueError: `logits` and `grid` have different numbers of bins.
    """
    check_bins(logits, grid)
    scores, targets = widen(logits, offsets)
    label = two_hot(targets, grid)
    # At most two entries of a label are above 0; if only one is, it is 1 and p log p is 0.
    larger, smaller = jnp.max(label, axis=-1), jnp.min(jnp.where(label > 0, label, 1.0), axis=-1)
    label_entropy = -(larger * jnp.log(larger) + smaller * jnp.log(smaller))
    return narrow(magnitude(_entropy(_bounded(scores)) - label_entropy), logits, offsets)


@jax.custom_jvp
def _entropy(logits: Array) -> Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


@_entropy.defjvp
def _entropy_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """∂H/∂z_i = −p_i (log p_i + H): one rounding; the derivative of the sum would subtract p_i from p_i."""
    (logits,), (direction,) = primals, tangents
    log_p = jax.nn.log_softmax(logits)
    value = _entropy(logits)
    return value, -jnp.sum(jnp.exp(log_p) * (log_p + value[..., None]) * direction, axis=-1)


def _bounded(logits: Array) -> Array:
    return jnp.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)
