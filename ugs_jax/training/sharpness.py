"""Curvature of the localization loss and variance of its gradients, by the size of the boxes, for the log."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import losses
from ugs_jax.boxes import Anchors, area
from ugs_jax.curvature import closed_forms, hvp
from ugs_jax.objectives import Localization
from ugs_jax.training.learning_cells import at_localized, gather_features, learning_cells
from ugs_jax.training.matching import Match, concatenate_levels

SIZES: dict[str, tuple[float, float]] = {
    "very_tiny": (0.0, 8.0),
    "tiny": (8.0, 16.0),
    "small": (16.0, 32.0),
    "medium": (32.0, 64.0),
    "large": (64.0, float("inf")),
}
"""Ranges [low, high) of √area of the box, px of the network's input, with the names of AI-TOD."""


SHARPNESS = tuple(
    f"{measure}_{size}" for measure in ("curvature", "gradient_variance", "box_curvature") for size in SIZES
)
"""Names of the metrics in the log."""


def sharpness_by_size(matches: tuple[Match, ...], localization: Localization) -> dict[str, Float[Array, ""]]:
    """Return curvature and gradient variance over the positives of each size; NaN for a size without positives.

    For every positive, the localization loss (without UR) is a function of the k raw outputs of the box. g is its
    gradient and H its Hessian with respect to these outputs. B is the Hessian of −ln IoU with respect to the corners of
    the decoded box.

    - `curvature_<size>`: root mean square of ‖H‖_F, from one exact product with random signs per positive
      (Hutchinson: E‖Hv‖² = ‖H‖²_F);
    - `gradient_variance_<size>`: variance of ‖g‖ over its squared mean, which is invariant to the scale of the loss;
    - `box_curvature_<size>`: geometric mean of ‖B‖_F, 1/px², in closed form, over the boxes that overlap their target.
      It is the curvature that a loss on boxes faces, for any training objective.

    ‖·‖_F is at least the largest eigenvalue, and at most 2 times that for B (√k times for H).

    Args:
      matches: Matches of all levels, from `match`.
      localization: Localization objective.

    Returns:
      Scalars by name, over the whole (global) batch.
    """
    mask = concatenate_levels([m.positive for m in matches])
    targets = concatenate_levels([m.targets for m in matches])
    pull, bend, box_bend = (each.reshape(-1) for each in _norms(matches, localization))
    overlaps = jnp.isfinite(box_bend) & (box_bend > 0)
    log_bend = jnp.log(jnp.where(overlaps, box_bend, 1))
    side = jnp.sqrt(area(targets)).reshape(-1)
    low, high = np.array([*SIZES.values()], np.float32).T[:, :, None]
    masks = mask.reshape(-1) & (side >= low) & (side < high)  # [sizes, p]
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


def _norms(matches: tuple[Match, ...], localization: Localization) -> tuple[Array, Array, Array]:
    """Return ‖g‖, ‖Hv‖² and ‖B‖_F of every positive, each [b, m, k, Σ a]; see `sharpness_by_size`."""
    cells = tuple(learning_cells(m) for m in matches)
    numbers = [jnp.arange(m.positive.size).reshape(m.positive.shape) for m in matches]

    def norms(raw: Array, own: tuple[Anchors, Array, Array]) -> tuple[Array, Array, Array]:
        anchors, targets, number = own
        loss = lambda raw: jnp.sum(localization.loss(raw, anchors, targets).loss)  # noqa: E731
        draw = lambda i: jax.random.rademacher(jax.random.fold_in(jax.random.key(0), i), raw.shape[1:], raw.dtype)  # noqa: E731
        bend = hvp(loss, raw, jax.vmap(draw)(number))
        of_boxes = closed_forms.log_iou(localization.decode(raw, anchors), targets)
        return (
            jnp.linalg.norm(jax.grad(loss)(raw), axis=-1),
            jnp.sum(jnp.square(bend), axis=-1),
            jnp.linalg.norm(of_boxes, axis=(-2, -1)),
        )

    return at_localized(matches, cells, norms, gather_features(matches, cells), numbers)
