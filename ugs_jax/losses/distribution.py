"""Distribution focal loss: the distance from a cell to a box side is a distribution over whole strides."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ugs_jax.losses.interval import interval_cross_entropy


def distribution_focal(logits: Float[Array, "*batch bins"], distance: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """DFL −[(i+1−y) log p_i + (y−i) log p_{i+1}] with i = ⌊y⌋: cross entropy on the grid 0, 1, …, bins−1.

    Args:
      logits: Unnormalised scores of the whole distances; 17 bins in GFL, 16 in YOLOv8.
      distance: Distance from the cell's point to one side of the target, in strides. It is clipped to [0, bins − 1].

    Returns:
      Unreduced loss. Li et al., Generalized Focal Loss, NeurIPS 2020, Eq. 6.

    Raises:
      ValueError: There are fewer than two bins.

    Example:
      >>> import jax.numpy as jnp
      >>> print(distribution_focal(jnp.zeros(16), jnp.array(3.4)))  # log 16
      2.7725887
    """
    return interval_cross_entropy(logits, jnp.asarray(distance), np.arange(logits.shape[-1], dtype=np.float64))
