"""How curved the localization loss is, and how unequally it pulls, by the size of the boxes: for the log."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ugs_jax import losses
from ugs_jax.boxes import Anchors, area
from ugs_jax.curvature import closed_forms, hvp
from ugs_jax.detectors import localize
from ugs_jax.objectives import Localization
from ugs_jax.training.matching import Match, beside

SIZES: dict[str, tuple[float, float]] = {
    "very_tiny": (0.0, 8.0),
    "tiny": (8.0, 16.0),
    "small": (16.0, 32.0),
    "medium": (32.0, 64.0),
    "large": (64.0, float("inf")),
}
"""√area of the box in px of the network's input, [low, high): AI-TOD's names."""


SHARPNESS = tuple(
    f"{measure}_{size}" for measure in ("curvature", "gradient_variance", "box_curvature") for size in SIZES
)
"""Names in the log."""


class _Positives(NamedTuple):
    raw: Float[Array, "p k"]
    anchors: Anchors
    targets: Float[Array, "p 4"]
    mask: Bool[Array, "p"]


def sharpness_by_size(matches: tuple[Match, ...], localization: Localization) -> dict[str, Float[Array, ""]]:
    """Curvature and spread of gradients over the positives of each size; NaN for a size without positives.

    For every positive the localization loss (without UR) is a function of the k raw outputs that the box is made of.
    With g its gradient and H its Hessian by these, and B the Hessian of −ln IoU by the corners of the decoded box:

    - `curvature_<size>`: root mean square of ‖H‖_F, from one exact product with random signs a positive
      (Hutchinson: E‖Hv‖² = ‖H‖²_F);
    - `gradient_variance_<size>`: variance of ‖g‖ over its squared mean, which no factor on the loss changes;
    - `box_curvature_<size>`: geometric mean of ‖B‖_F, 1/px², in closed form, over the boxes that overlap their target:
      what a loss on boxes has to cope with, whichever objective trains.

    ‖·‖_F is at least the largest eigenvalue and at most 2 of it for B (√k for H).

    Args:
      matches: from `match`.
      localization: the objective.

    Returns:
      Scalars by name, means over the whole (global) batch.
    """
    found = _flatten(matches)

    def loss(raw: Array) -> Array:
        return losses.masked_sum(localization.loss(raw, found.anchors, found.targets).loss, found.mask)

    signs = jax.random.rademacher(jax.random.key(0), found.raw.shape, found.raw.dtype)
    pull = jnp.linalg.norm(jax.grad(loss)(found.raw), axis=-1)
    bend = jnp.sum(jnp.square(hvp(loss, found.raw, signs)), axis=-1)
    box_bend = jnp.linalg.norm(
        closed_forms.log_iou(localization.decode(found.raw, found.anchors), found.targets), axis=(-2, -1)
    )
    overlaps = jnp.isfinite(box_bend) & (box_bend > 0)
    log_bend = jnp.log(jnp.where(overlaps, box_bend, 1))
    side = jnp.sqrt(area(found.targets))
    low, high = np.array([*SIZES.values()], np.float32).T[:, :, None]
    masks = found.mask & (side >= low) & (side < high)  # [sizes, p]
    both = masks & overlaps
    of_sizes = lambda values: jnp.broadcast_to(values, masks.shape)  # noqa: E731
    known = lambda values, mask: jnp.where(jnp.any(mask, axis=1), values, jnp.nan)  # noqa: E731
    mean = losses.masked_mean(of_sizes(pull), masks, axis=1)
    spread = losses.masked_variance(of_sizes(pull), masks, axis=1) / jnp.square(mean)
    measured = (
        known(jnp.sqrt(losses.masked_mean(of_sizes(bend), masks, axis=1)), masks),
        known(spread, masks),
        known(jnp.exp(losses.masked_mean(of_sizes(log_bend), both, axis=1)), both),
    )
    return dict(zip(SHARPNESS, jnp.concatenate(measured), strict=True))


def _flatten(matches: tuple[Match, ...]) -> _Positives:
    levels = [
        _Positives(localize(one.localizer, one.features()), one.anchors, one.targets, one.positive) for one in matches
    ]
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[4:]), beside(levels))  # [b, m, 3, a, …]
