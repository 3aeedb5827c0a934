"""Check of an objective before a run begins."""

import jax
import jax.numpy as jnp

from ugs_jax import boxes as bx
from ugs_jax.objectives.protocol import FitsToTargets, Localization


def check_objective(objective: Localization) -> None:
    """Raise a ValueError if an objective cannot compute its loss, before time goes into data sets and compilation.

    The loss is traced for one box, without computing anything. An objective that is to be fitted is not checked.
    """
    if isinstance(objective, FitsToTargets) and objective.to_be_fitted:
        return
    name = type(objective).__name__
    box = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    raw = jax.ShapeDtypeStruct((1, objective.num_outputs), jnp.float32)
    try:
        shape = jax.eval_shape(lambda r, b: objective.loss(r, bx.Anchors.from_boxes(b), b).loss, raw, box).shape
    except Exception as error:  # the loss can be the user's and raise anything
        raise ValueError(
            f"{name}: its loss cannot be computed: {type(error).__name__}: {error}. Fix: check the loss and its "
            f"hyperparameters in {objective}"
        ) from error
    if shape != (1,):
        raise ValueError(
            f"{name}: expected one loss for each box, shape (1,) for one box, got shape {shape}. Fix: a box loss takes "
            "boxes [..., 4] and returns [...]; leave the mean to the trainer"
        )
