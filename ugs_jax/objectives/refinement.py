"""Uncertainty-guided refinement (UR): perturb features along the gradient of the uncertainty loss.

For every image and pyramid level, ε = ρ · ∇_P L_UM / ‖∇_P L_UM‖₂ with the gradient stopped. The localization layer then
runs once more on P + ε, and its loss is added. UR is used in training only. The norm is taken over one image and level,
which keeps ε independent of the batch size and of sharding.

References:
  Sun et al., ICCV 2025.
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
"""Length ρ of the perturbation in the paper."""


@dataclass(frozen=True)
class Refinement:
    """Settings of UR.

    Attributes:
      radius: Length ρ of the feature perturbation.
      weight: Weight γ of the localization loss at the perturbed features. With 0 nothing is perturbed.
      norm: Norm that is set to ρ. `image`: each image and level has a perturbation of length ρ. `batch`: one norm for
        all images of a level, whose root mean square length is ρ. Images with steep gradients then get longer
        perturbations.
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
    """Return ε for whole feature maps, with one norm for each image. It is zero for an image without a gradient.

    Args:
      uncertainty: Function from features to the scalar Σ L_UM over the positives of all images.
      features: Features of one pyramid level, for example [B, h, w, C].
      radius: Length ρ of ε.

    Returns:
      Perturbation ε, detached, in the dtype of `features`.
    """
    gradient = _gradient(uncertainty, features)
    length = root(jnp.sum(jnp.square(gradient), axis=tuple(range(1, features.ndim)), keepdims=True), floor=1e-30)
    return (radius * ratio(gradient, length, floor=1e-30)).astype(features.dtype)


def sparse_perturbation(
    uncertainty: Callable[[T], Array],
    features: T,
    cells: Any = None,
    *,
    radius: Scalar = RADIUS,
    norm: Norm = "image",
) -> T:
    """Return ε at gathered cells. It equals `perturbation` of the whole map at these cells.

    The gradient of L_UM is zero at every cell that was not gathered. A cell that was gathered more than once has the
    sum of the gradients of its copies, so copies are summed first. The squared norm of the map is then Σ_i g_i · G_i
    over copies i, with g_i the gradient of a copy and G_i that of its cell.

    Args:
      uncertainty: Function from gathered features to the scalar Σ L_UM. Candidates that are not positive must not
        count.
      features: Gathered feature vectors of one pyramid level, [b, n, c]; or a pytree, such as a tuple, with one such
        array for each level.
      cells: Index of the cell, in its level, from which each vector was gathered, int [b, n]; a pytree like
        `features`. None if the cells of every image differ, where only cells without a gradient may be repeated.
      radius: Length ρ of ε over the map of one level.
      norm: Norm that is set to ρ: the length for each `image`, or the root mean square over the images of a `batch`.

    Returns:
      Perturbation ε, detached, in the shape and dtype of `features`.
    """

    def of_level(gradient: Array, total: Array, features: Array) -> Array:
        square = jnp.sum(gradient * total, axis=(1, 2), keepdims=True)
        length = root(square if norm == "image" else jnp.mean(square, axis=0, keepdims=True), floor=1e-30)
        return (radius * ratio(total, length, floor=1e-30)).astype(features.dtype)

    gradient = _gradient(uncertainty, features)
    total = gradient if cells is None else jax.tree.map(jax.vmap(_sum_copies), gradient, cells)
    return jax.tree.map(of_level, gradient, total, features)


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
