"""Box voting: a kept box moves to the mean of its neighbours, weighted by their certainty and their overlap."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ugs_jax.boxes.overlap import pairwise_iou
from ugs_jax.numerics import Scalar, narrow, widen

_DEVIATION_FLOOR = 1e-3  # px; a side with a smaller deviation outweighs all others anyway


def variance_voting(
    boxes: Float[Array, "k 4"],
    neighbours: Float[Array, "n 4"],
    deviation: Float[Array, "n 4"],
    voting: Bool[Array, "k n"],
    *,
    sigma: Scalar,
) -> Float[Array, "k 4"]:
    """Return sides x = Σ p_i x_i/σ_i² / Σ p_i/σ_i² over the neighbours, with p_i = exp(−(1 − IoU_i)²/sigma).

    Args:
      boxes: Boxes that suppression has kept, xyxy, px.
      neighbours: Candidates from before suppression, among them the kept boxes themselves.
      deviation: Standard deviation of each side of the neighbours, px; values below 0.001 are replaced by 0.001.
      voting: Mask of the neighbours that vote on each box: candidates of its class. Neighbours that do not overlap a
        box never vote on it.
      sigma: Width of the decline of votes with distance, > 0; 0.02 in the paper.

    Returns:
      Boxes, px. A box without voters is unchanged.

    Raises:
      ValueError: `sigma` is not positive.

    References:
      He et al., Bounding Box Regression with Uncertainty for Accurate Object Detection, CVPR 2019, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp
      >>> boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 11.0]])
      >>> deviation = jnp.array([[1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 0.5]])
      >>> print(variance_voting(boxes[:1], boxes, deviation, jnp.ones((1, 2), bool), sigma=0.02).round(2))
      [[ 0.    0.   10.   10.91]]
    """
    (spread,) = widen(deviation)
    return _vote(boxes, neighbours, 1 / jnp.square(jnp.maximum(spread, _DEVIATION_FLOOR)), voting, sigma)


def score_voting(
    boxes: Float[Array, "k 4"],
    neighbours: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    voting: Bool[Array, "k n"],
    *,
    sigma: Scalar,
) -> Float[Array, "k 4"]:
    """Return boxes x = Σ p_i s_i x_i / Σ p_i s_i, with scores s_i, for detectors that predict no deviations.

    Args:
      boxes: As for `variance_voting`.
      neighbours: As for `variance_voting`.
      scores: Scores of the neighbours, >= 0.
      voting: As for `variance_voting`.
      sigma: As for `variance_voting`.

    Returns:
      Boxes, px. A box without voters is unchanged.

    Raises:
      ValueError: `sigma` is not positive.

    References:
      Gidaris and Komodakis, Object Detection via a Multi-region and Semantic Segmentation-aware CNN Model, ICCV 2015
      (votes by score). Votes decline with distance as in `variance_voting`.
    """
    (weight,) = widen(scores)
    return _vote(boxes, neighbours, jnp.broadcast_to(weight[:, None], neighbours.shape), voting, sigma)


def _vote(boxes: Array, neighbours: Array, certainty: Array, voting: Array, sigma: Scalar) -> Array:
    if not sigma > 0:
        raise ValueError(f"sigma: expected a number above 0, got {sigma}; 0.02 is usual")
    kept, others = widen(boxes, neighbours)
    overlap = pairwise_iou(kept, others)
    vote = jnp.where(voting & (overlap > 0), jnp.exp(-jnp.square(1 - overlap) / sigma), 0.0)
    weight = vote[..., None] * certainty
    total = jnp.sum(weight, axis=1)
    # Averaging shifts instead of coordinates keeps a precision of hundredths of a pixel at 10⁴ px.
    shift = jnp.sum(weight * (others[None] - kept[:, None]), axis=1)
    return narrow(kept + jnp.where(total > 0, shift / jnp.where(total > 0, total, 1.0), 0.0), boxes)
