"""Parts that the heads of all networks share: the layers that localize, and logits in full precision."""

from typing import cast

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import Initializer, linear
from ugs_jax.detectors.levels import Localizer
from ugs_jax.detectors.network_options import NetworkOptions
from ugs_jax.objectives.quality import EVIDENCE, QualityLayer
from ugs_jax.objectives.second_stage import POINTS, SecondStageLayer


def score_logits(layer: nnx.Linear, x: Float[Array, "*cells c"]) -> Float[Array, "*cells n"]:
    """Return the outputs of a layer. Its factors may be half precision; results and the bias' gradient are not."""
    kernel, bias = layer.kernel[...], cast("nnx.Param[Array]", layer.bias)[...]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=wide) + bias


class LocalizingHead(nnx.Module):
    """Parameters of the layers that localize at one level."""

    def __init__(
        self,
        arch: NetworkOptions,
        width: int,
        anchors: int,
        rngs: nnx.Rngs,
        *,
        bias_init: Initializer | None = None,
    ) -> None:
        self.anchors, self.outputs = anchors, arch.num_outputs
        self.localize = linear(width, anchors * arch.num_outputs, bias_init=bias_init, dtype=arch.dtype, rngs=rngs)
        outputs, hidden = arch.num_outputs, arch.second_stage
        self.second = SecondStageParameters(width, outputs, hidden, nnx.Rngs(rngs.second())) if hidden else None
        self.quality = QualityParameters(arch.quality, nnx.Rngs(rngs.quality())) if arch.quality else None

    def localizer(self) -> Localizer:
        """Return the parameters of the layers that localize."""
        kernel, bias = self.localize.kernel, cast("nnx.Param[Array]", self.localize.bias)
        shape = (self.anchors, self.outputs)
        return Localizer(
            kernel[...].reshape(-1, *shape),
            bias[...].reshape(shape),
            self.second.layer() if self.second else None,
            self.quality.layer() if self.quality else None,
        )


class SecondStageParameters(nnx.Module):
    """Parameters of a second localization stage; its last layer starts at zero."""

    def __init__(self, width: int, outputs: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.points = linear(POINTS * width, hidden, rngs=rngs)
        self.shape = linear(outputs, hidden, bias=False, rngs=rngs)
        self.out = nnx.Linear(hidden, outputs, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def layer(self) -> SecondStageLayer:
        """Return the arrays of the stage."""
        bias = cast("nnx.Param[Array]", self.points.bias)
        return SecondStageLayer(self.points.kernel[...], self.shape.kernel[...], bias[...], self.out.kernel[...])


class QualityParameters(nnx.Module):
    """Parameters of a quality predictor."""

    def __init__(self, hidden: int, rngs: nnx.Rngs) -> None:
        self.hidden, self.out = linear(EVIDENCE, hidden, rngs=rngs), linear(hidden, 1, rngs=rngs)

    def layer(self) -> QualityLayer:
        """Return the arrays of the predictor."""
        bias, out_bias = (cast("nnx.Param[Array]", layer.bias)[...] for layer in (self.hidden, self.out))
        return QualityLayer(self.hidden.kernel[...], bias, self.out.kernel[...][:, 0], out_bias[0])
