"""Functions shared by objectives that predict a distribution for each of the four box parameters."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ugs_jax import losses
from ugs_jax.numerics import widen


def split_logits(raw: Float[Array, "*batch outputs"], bins: int) -> Float[Array, "*batch 4 bins"]:
    """Return raw outputs as four rows of logits, in at least float32.

    Raises:
      ValueError: `raw` does not have 4 × `bins` channels.
    """
    if raw.shape[-1] != 4 * bins:
        raise ValueError(f"raw outputs: expected 4 × {bins} channels on the last axis, got shape {raw.shape}")
    (wide,) = widen(raw)
    return wide.reshape(*raw.shape[:-1], 4, bins)


def mean_uncertainty(logits: Float[Array, "*batch 4 bins"]) -> Float[Array, "*batch"]:
    """Return the mean normalised entropy of the four distributions, in [0, 1]."""
    return jnp.mean(losses.normalised_entropy(logits), axis=-1)
