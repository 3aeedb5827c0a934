"""`ugs_stabilize`: the limits by curvature and by uncertainty as one optax transformation."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from ugs_jax.stabilize.curvature_limit import CurvatureLimitState, limit_by_curvature
from ugs_jax.stabilize.uncertainty_limit import UncertaintyLimitState, limit_by_uncertainty


class StabilizeState(NamedTuple):
    """State of `ugs_stabilize`, readable by name: `optax.tree.get(opt_state, "scale")`.

    Attributes:
      count: Number of updates.
      limited: Number of updates that were shortened.
      uphill: Number of updates that did not descend (gᵀu ≥ 0). The limit by curvature returned them unchanged. If this
        number grows with `count`, the transformation does not see the step itself; see `ugs_stabilize`.
      scale: Factor of the last update, in [0, 1].
      curvature: Curvature uᵀHu/‖u‖² along the last update. NaN if it is unknown, for example because `grad` is missing.
      uncertainty: Running mean of the uncertainty. NaN before the first value and after an update without the
        argument.
      uncertain_count: Number of updates with a finite uncertainty.
    """

    count: Array  # type: ignore[assignment]  # shadows tuple.count, as in every state of optax
    limited: Array
    uphill: Array
    scale: Array
    curvature: Array
    uncertainty: Array
    uncertain_count: Array


def ugs_stabilize(
    fraction: Array | float = 1.0,
    power: Array | float = 1.0,
    *,
    decay: Array | float = 0.99,
    obj_fn: Callable[[Any], Array] | None = None,
    every: Array | int = 1,
    require: Iterable[str] = (),
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates that overshoot because of curvature, or that come with a spike of uncertainty.

    .. math:: u \leftarrow u \cdot \min(1, c\,s^*) \cdot \min(1, \bar q / q)^p, \; s^* = -g^\top u / u^\top Hu

    with u the update, g the gradient, H the Hessian, q the uncertainty and q̄ its running mean.

    Updates are only ever scaled down. When no limit is active they are returned unchanged. The position in the chain
    matters:

    - *Last in a chain, after the learning rate*: this is the right place. The update is the step itself. Adam and
      similar optimizers cancel any slow rescaling of their inputs.
    - *Before the learning rate*: updates point uphill (gᵀu > 0). They are returned unchanged, and `uphill` in the state
      counts them.
    - *Optimizers with iterates of their own* (`optax.contrib.schedule_free`, `optax.contrib.mechanize`): put it inside,
      last in the chain that they wrap. These optimizers rely on their updates being applied in full.
    - *`optax.masked`, `optax.partition`*: put it outside and last if you use `value_fn` or `obj_fn`, because these need
      all parameters.
    - *`optax.MultiSteps`*: put it inside. The extra arguments of the last micro-batch count.

    An argument that is not passed to `update` turns off only the limit that needs it. Without `grad`, or without any
    source of curvature (see `limit_by_curvature`), only the limit by uncertainty acts. Without `uncertainty`, only the
    limit by curvature acts. If an argument is missing or misspelt, `curvature` or `uncertainty` in the state is NaN.
    `require` makes it an error.

    Args:
      fraction: Factor c of the limit by curvature, in (0, 2).
      power: Exponent p of the limit by uncertainty, p ≥ 0.
      decay: Decay of the running mean of the uncertainty, in [0, 1).
      obj_fn: Loss that is the same at every update; see `limit_by_curvature`.
      every: Number of updates between two Hessian-vector products; see `limit_by_curvature`.
      require: Names of the extra arguments that every `update` must get: any of `grad`, `curvature`, `value_fn` and
        `uncertainty`.

    Returns:
      A transformation whose `update` takes the extra arguments `grad`, `curvature`, `value_fn` and `uncertainty`.

    Raises:
      ValueError: A setting is out of range, or `require` has a name that is not an extra argument. From `update`: a
        required argument is missing, or an argument has the wrong shape.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from ugs_jax.stabilize import ugs_stabilize
      >>> tx = optax.chain(optax.adam(10.0), ugs_stabilize(every=1))
      >>> loss = lambda x: jnp.sum(x**4)
      >>> x = jnp.array([1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     value, g = jax.value_and_grad(loss)(x)
      ...     u, state = tx.update(g, state, x, grad=g, value=value, value_fn=loss)
      ...     x = optax.apply_updates(x, u)
      >>> print(x.round(3), int(optax.tree.get(state, "limited")))
      [0.296] 3

    References:
      Sun et al., Uncertainty-Aware Gradient Stabilization for Small Object Detection, ICCV 2025. Their
      stabilization acts on the loss; this transformation is ours.
    """
    required = _checked(require)
    curved, unsure = limit_by_curvature(fraction, obj_fn, every), limit_by_uncertainty(power, decay)

    def init(params: Any) -> StabilizeState:
        del params
        # Separate arrays: a state that holds one array twice cannot be donated.
        count, limited, uphill, uncertain_count = jnp.zeros((4,), jnp.int32)
        curvature, uncertainty = jnp.full((2,), jnp.nan, float)
        return StabilizeState(count, limited, uphill, jnp.ones(()), curvature, uncertainty, uncertain_count)

    def update(
        updates: Any, state: StabilizeState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StabilizeState]:
        _check_present(required, extra_args)
        none = jnp.zeros((), jnp.int32)
        before = CurvatureLimitState(state.count, none, state.uphill, state.scale, state.curvature)
        updates, by_curvature = curved.update(updates, before, params, **extra_args)
        doubt = UncertaintyLimitState(state.uncertain_count, none, state.scale, state.uncertainty)
        updates, by_uncertainty = unsure.update(updates, doubt, params, **extra_args)
        scale = by_curvature.scale * by_uncertainty.scale
        limited = (by_curvature.limited + by_uncertainty.limited) > 0
        new = StabilizeState(
            by_curvature.count,
            state.limited + limited,
            by_curvature.uphill,
            scale,
            by_curvature.curvature,
            by_uncertainty.uncertainty,
            by_uncertainty.count,
        )
        return updates, new

    return optax.GradientTransformationExtraArgs(init, update)


_EXTRAS = ("grad", "curvature", "value_fn", "uncertainty")


def _checked(require: Iterable[str]) -> tuple[str, ...]:
    names = (require,) if isinstance(require, str) else tuple(require)
    for name in names:
        if name not in _EXTRAS:
            raise ValueError(f"require: expected names among {', '.join(_EXTRAS)}, got {name!r}")
    return names


def _check_present(required: tuple[str, ...], extra_args: dict[str, Any]) -> None:
    missing = [name for name in required if extra_args.get(name) is None]
    if missing:
        raise ValueError(
            f"ugs_stabilize: expected the required extra arguments {', '.join(required)}, got "
            f"{', '.join(extra_args) or 'none'}; pass {', '.join(missing)} to update, or check the spelling"
        )
