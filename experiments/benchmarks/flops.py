"""Model FLOPs of a training step: only matrix products and convolutions of loss and gradient are counted."""

import math
from typing import Any

import jax
from jax.extend import core

from data_pipeline import LoaderOptions
from ugs_jax.detectors import Detector
from ugs_jax.experiment import LossWeights
from ugs_jax.planning.program import batch_shapes
from ugs_jax.training import objective


def gradient_flops(detector: Detector, loader: LoaderOptions, loss_weights: LossWeights) -> float:
    """Return the FLOPs of the loss of a batch and its gradient in the parameters. A multiply-add counts as two.

    The FLOPs are counted in the program before compilation. Recomputation (`remat`) would be counted too.

    Args:
      detector: Detector.
      loader: Loader options, for the shapes of the batch.
      loss_weights: Weights of the terms of the loss.
    """
    params, stats = jax.eval_shape(lambda: detector.init(0))

    def loss_of(params: Any, batch: Any) -> jax.Array:
        outputs, _ = detector.apply(params, stats_of(stats), batch.images, train=True)
        return objective(outputs, batch, detector.localization, detector.arch, loss_weights)[0]

    return jaxpr_flops(jax.make_jaxpr(jax.value_and_grad(loss_of))(params, batch_shapes(loader)).jaxpr)


def stats_of(shapes: Any) -> Any:
    """Return arrays of zeros with the given shapes."""
    return jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)


def jaxpr_flops(jaxpr: core.Jaxpr) -> float:
    """Return the FLOPs of matrix products and convolutions, including those of inner programs. Loops count once."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            a_number = 2 * math.prod(kernel) / kernel[numbers.rhs_spec[0]]
            # In the convolution of a gradient, most factors may be the zeros between dilated rows.
            zeros = math.prod(equation.params["lhs_dilation"])
            total += a_number * math.prod(equation.outvars[0].aval.shape) / zeros
        else:
            total += sum(jaxpr_flops(inner) for inner in _inner(equation.params))
    return total


def _inner(params: dict[str, Any]) -> list[core.Jaxpr]:
    leaves = [leaf for value in params.values() for leaf in (value if isinstance(value, tuple | list) else [value])]
    plain = [leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf for leaf in leaves]
    return [leaf for leaf in plain if isinstance(leaf, core.Jaxpr)]
