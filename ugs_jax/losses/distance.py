"""Losses on the distance between boxes in px, made for tiny objects: NWD and DotD.

Unlike IoU, they also measure the distance between disjoint boxes. At zero distance both have a kink; the gradient there
is 0.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ugs_jax.boxes.format import center_and_sides
from ugs_jax.numerics import Scalar, narrow, root, widen


def nwd(
    boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"], *, constant: Scalar = 12.8
) -> Float[Array, "*#batch"]:
    """NWD loss 1 − exp(−W/C), W the 2-Wasserstein distance of the boxes' Gaussians: W² = |Δc|² + (Δw² + Δh²)/4.

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px.
      constant: C in px, > 0; about the mean size of the objects (12.8 for AI-TOD).

    Returns:
      Unreduced loss in [0, 1). Wang et al., A Normalized Gaussian Wasserstein Distance, 2021, arXiv 2110.13389.

    Raises:
      ValueError: `constant` is not above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> print(nwd(jnp.array([0.0, 0.0, 4.0, 4.0]), jnp.array([0.0, 0.0, 4.0, 4.0])))
      0.0
    """
    if not constant > 0:
        raise ValueError(f"constant: expected a length in px > 0, got {constant}")
    shift, growth = _differences(boxes, targets)
    squares = jnp.square(shift) + jnp.square(growth / 2)
    return narrow(-jnp.expm1(-root(jnp.sum(squares, axis=-1)) / constant), boxes, targets)


def dotd(
    boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"], *, constant: Scalar = 12.7
) -> Float[Array, "*#batch"]:
    """DotD loss 1 − exp(−|Δc|/C), Δc the shift of the centres; the sizes of the boxes have no influence.

    Args:
      boxes: Predicted boxes, xyxy, px.
      targets: Target boxes, xyxy, px.
      constant: C in px, > 0; about the mean size of the objects.

    Returns:
      Unreduced loss in [0, 1). Xu et al., Dot Distance for Tiny Object Detection, CVPR Workshops 2021.

    Raises:
      ValueError: `constant` is not above 0.
    """
    if not constant > 0:
        raise ValueError(f"constant: expected a length in px > 0, got {constant}")
    shift, _ = _differences(boxes, targets)
    return narrow(-jnp.expm1(-root(jnp.sum(jnp.square(shift), axis=-1)) / constant), boxes, targets)


def _differences(boxes: Array, targets: Array) -> tuple[Array, Array]:
    """Return the differences of the centres and of the sides, px; a reversed box has negative sides."""
    (center, sides), (target_center, target_sides) = (center_and_sides(wide) for wide in widen(boxes, targets))
    return center - target_center, sides - target_sides
