"""Uncertainty-guided refinement (UR): perturb features along the gradient of the uncertainty loss.

For every image and pyramid level, ε = ρ · ∇_P L_UM / ‖∇_P L_UM‖₂ with the gradient stopped; the localization layer then
runs once more on P + ε and its loss is added. Training only. Sun et al., ICCV 2025; METHOD: the norm is taken over one
image and level, which keeps ε independent of the batch size and of sharding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ugs_jax.numerics import Scalar, ratio, root

T = TypeVar("T")

Norm = Literal["image", "batch"]

RADIUS = 0.5
"""ρ of the paper."""


@dataclass(frozen=True)
class Refinement:
    """Settings of UR.

    Attributes:
      radius: Length ρ of the feature perturbation.
      weight: Weight γ of the localization loss there.
      norm: `image`: each image and level has a perturbation of length ρ. `batch`: one norm for all images of a level;
        the root mean square length over them is ρ, and images with steep gradients get more of it.
    """

    radius: float = RADIUS
    weight: float = 0.1
    norm: Norm = "image"

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(f"Refinement.norm: expected 'image' or 'batch', got {self.norm!r}")


def perturbation(
    uncertainty: Callable[[Array], Array], features: Float[Array, "b *cells c"], *, radius: Scalar = RADIUS
) -> Float[Array, "b *cells c"]:
    """ε for whole feature maps, one norm an image; zero for an image without any gradient.

    Args:
      uncertainty: from features to the scalar Σ L_UM over the positives of all images.
      features: of one pyramid level, e.g. [B, h, w, C].
      radius: ρ, length of ε.

    Returns:
      ε, detached, in the dtype of `features`.
    """
    gradient = _gradient(uncertainty, features)
    length = root(jnp.sum(jnp.square(gradient), axis=tuple(range(1, features.ndim)), keepdims=True), floor=1e-30)
    return (radius * ratio(gradient, length, floor=1e-30)).astype(features.dtype)


def sparse_perturbation(
    uncertainty: Callable[[T], Array],
    features: T,
    cells: Any,
    *,
    radius: Scalar = RADIUS,
    norm: Norm = "image",
) -> T:
    """ε at gathered cells, equal to `perturbation` of the whole map gathered there.

    The gradient of L_UM is zero at every cell that was not gathered. A cell gathered more than once collects the
    gradients of all its copies, so copies are summed first; the squared norm of the map is then Σ_i g_i · G_i over
    copies i, with g_i the gradient of a copy and G_i that of its cell.

    Args:
      uncertainty: from gathered features to the scalar Σ L_UM; candidates that are not positive must not count.
      features: [b, n, c], gathered feature vectors of one pyramid level; or a tuple or other pytree of these, one a
        level.
      cells: int [b, n], which cell of its level each came from; a pytree like `features`.
      radius: ρ, length of ε over the map of one level.
      norm: Whether ρ is the length for each image, or the root mean square over the images of a batch.

    Returns:
      ε, detached, in shape and dtype of `features`.
    """

    def of_level(gradient: Array, features: Array, cells: Array) -> Array:
        total = jax.vmap(_sum_copies)(gradient, cells)
        square = jnp.sum(gradient * total, axis=(1, 2), keepdims=True)
        length = root(square if norm == "image" else jnp.mean(square, axis=0, keepdims=True), floor=1e-30)
        return (radius * ratio(total, length, floor=1e-30)).astype(features.dtype)

    return jax.tree.map(of_level, _gradient(uncertainty, features), features, cells)


def _gradient(uncertainty: Callable[[T], Array], features: T) -> T:
    gradient = jax.grad(uncertainty)(jax.lax.stop_gradient(features))
    wide = lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))  # noqa: E731
    return jax.lax.stop_gradient(jax.tree.map(wide, gradient))


def _sum_copies(gradient: Float[Array, "n c"], cells: Int[Array, "n"]) -> Float[Array, "n c"]:
    order = jnp.argsort(cells)
    ordered = cells[order]
    first = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    group = jnp.zeros(cells.shape, jnp.int32).at[order].set(jnp.cumsum(first, dtype=jnp.int32))
    return jax.ops.segment_sum(gradient, group, num_segments=cells.shape[0])[group]
