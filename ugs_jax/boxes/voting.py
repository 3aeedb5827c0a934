"""Variance voting: a kept box moves to the mean of its neighbours, each side weighted by how sure they are of it."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ugs_jax.boxes.overlap import pairwise_iou
from ugs_jax.numerics import Scalar, narrow, widen

_DEVIATION_FLOOR = 1e-3  # px; a side surer than that outweighs all others anyway


def variance_voting(
    boxes: Float[Array, "k 4"],
    neighbours: Float[Array, "n 4"],
    deviation: Float[Array, "n 4"],
    voting: Bool[Array, "k n"],
    *,
    sigma: Scalar,
) -> Float[Array, "k 4"]:
    """Sides x = Σ p_i x_i/σ_i² / Σ p_i/σ_i² over the neighbours, p_i = exp(−(1 − IoU_i)²/sigma).

    Args:
      boxes: that suppression has kept, xyxy, px.
      neighbours: candidates from before suppression, among them the kept boxes themselves.
      deviation: standard deviation of each side of the neighbours, px; below 0.001 it counts as that.
      voting: which neighbours have a vote on which box: candidates of its class; none for those that do not overlap it.
      sigma: how fast votes fall with distance, > 0; 0.02 in the paper.

    Returns:
      Boxes, px; one without any voter stays as it is.

    Raises:
      ValueError: `sigma` not positive.

    References:
      He et al., Bounding Box Regression with Uncertainty for Accurate Object Detection, CVPR 2019, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp
      >>> found = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 11.0]])
      >>> sure = jnp.array([[1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 0.5]])
      >>> print(variance_voting(found[:1], found, sure, jnp.ones((1, 2), bool), sigma=0.02).round(2))
      [[ 0.    0.   10.   10.91]]
    """
    if not sigma > 0:
        raise ValueError(f"sigma: expected a number above 0, got {sigma}; 0.02 is usual")
    kept, others, spread = widen(boxes, neighbours, deviation)
    overlap = pairwise_iou(kept, others)
    vote = jnp.where(voting & (overlap > 0), jnp.exp(-jnp.square(1 - overlap) / sigma), 0.0)
    weight = vote[..., None] / jnp.square(jnp.maximum(spread, _DEVIATION_FLOOR))
    total = jnp.sum(weight, axis=1)
    # Shifts and not coordinates are averaged, which at 10⁴ px keeps hundredths of them.
    shift = jnp.sum(weight * (others[None] - kept[:, None]), axis=1)
    return narrow(kept + jnp.where(total > 0, shift / jnp.where(total > 0, total, 1.0), 0.0), boxes)
