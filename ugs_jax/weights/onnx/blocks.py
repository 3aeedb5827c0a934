"""Functions of `detectors.blocks` that have an ONNX operator, but are computed otherwise in JAX."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr

from ugs_jax.weights.onnx.contractions import CHANNELS_FIRST
from ugs_jax.weights.onnx.tensors import Operand, Tensor, Tensors


def _max_pool(tensors: Tensors, operands: Sequence[Operand], traced: Jaxpr) -> Tensor:
    """Return the maxima of windows, whose size is known from the margins that the function adds."""
    (x,) = operands
    margins = [each.params["padding_config"] for each in traced.eqns if each.primitive.name == "pad"]
    reach = int(max(low for config in margins for low, _, _ in config))
    image, size = tensors.whole(x, CHANNELS_FIRST), 2 * reach + 1
    name = tensors.graph.add("MaxPool", image, kernel_shape=[size, size], pads=[reach] * 4)
    return tensors.tensor(name, _shape(traced), np.float32, CHANNELS_FIRST)


def _folded_convolution(tensors: Tensors, operands: Sequence[Operand], traced: Jaxpr) -> Tensor:
    image, kernel = operands
    name = tensors.graph.add(
        "Conv",
        tensors.whole(image, CHANNELS_FIRST),
        tensors.whole(kernel, (3, 2, 0, 1)),
        strides=[2, 2],
        pads=[2] * 4,
    )
    return tensors.tensor(name, _shape(traced), np.float32, CHANNELS_FIRST)


def _shape(traced: Jaxpr) -> tuple[Any, ...]:
    result: Any = traced.outvars[0].aval
    return tuple(result.shape)


BLOCKS = {"max_pool": _max_pool, "folded_convolution": _folded_convolution}
"""Functions by the name under which JAX traces them."""
