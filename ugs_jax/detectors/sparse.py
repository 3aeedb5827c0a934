"""Localization only where it is needed: gather feature vectors, apply the last 1×1 layer to them. Exact."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ugs_jax.detectors.architecture import Localizer


def gather(values: Float[Array, "b h w *rest"], cells: Int[Array, "b *n"]) -> Float[Array, "b ..."]:
    """Values at flat cell indices (row · width + column) of every image's map."""
    b, h, w, *rest = values.shape
    flat = values.reshape(b, h * w, *rest)
    index = cells.reshape(b, -1, *(1 for _ in rest))
    taken = jnp.take_along_axis(flat, index, axis=1, mode="clip")
    return taken.reshape(*cells.shape, *rest)


def localize(localizer: Localizer, features: Float[Array, "*n c"]) -> Float[Array, "*n a k"]:
    """Localization logits of every anchor at gathered features; the same function makes the dense map."""
    kernel = localizer.kernel.astype(features.dtype)
    c, a, k = kernel.shape
    # Half-precision factors, but sums and logits in the precision of the parameters.
    raw = jnp.matmul(features, kernel.reshape(c, a * k), preferred_element_type=localizer.bias.dtype)
    return raw.reshape(*features.shape[:-1], a, k) + localizer.bias
