"""The head of YOLOv8 and its kin: a branch of convolutions for boxes and one for classes, without objectness."""

import math
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.blocks import ConvNormAct, linear
from ugs_jax.detectors.heads import LocalizingHead, score_logits
from ugs_jax.detectors.levels import Level
from ugs_jax.detectors.network_options import NetworkOptions

PUBLISHED_OUTPUTS = 64
"""Channels of the published localization layer: four distributions over 16 points."""


class SplitHead(LocalizingHead):
    """Box branch, class branch and the parameters of the localizer of one level."""

    def __init__(
        self,
        arch: NetworkOptions,
        width: int,
        finest: int,
        stride: int,
        rngs: nnx.Rngs,
        *,
        depthwise: bool,
        published_outputs: int,
    ) -> None:
        kw: dict[str, Any] = {"dtype": arch.dtype, "rngs": rngs}
        box, score = max(16, finest // 4, published_outputs), max(finest, min(arch.classes, 100))
        self.box = nnx.List([ConvNormAct(width, box, 3, **kw), ConvNormAct(box, box, 3, **kw)])
        layers = []
        for inputs in (width, score):
            if depthwise:
                layers.append(ConvNormAct(inputs, inputs, 3, groups=inputs, **kw))
            layers.append(ConvNormAct(inputs, score, 1 if depthwise else 3, **kw))
        self.classify = nnx.List(layers)
        # Scores start as if 5 objects of the classes were spread over an image of 640² px.
        prior = nnx.initializers.constant(math.log(5 / arch.classes / (640 / stride) ** 2))
        self.score = linear(score, arch.classes, bias_init=prior, **kw)
        super().__init__(arch, box, 1, rngs, bias_init=nnx.initializers.zeros)

    def __call__(self, x: Float[Array, "b h w c"]) -> Level:
        """Return the outputs of the level, with the end of the box branch as features."""
        features, y = x, x
        for layer in self.box:
            features = layer(features)
        for layer in self.classify:
            y = layer(y)
        return Level(features, None, score_logits(self.score, y)[..., None, :])


def split_heads(
    arch: NetworkOptions,
    rngs: nnx.Rngs,
    *,
    depthwise: bool = False,
    published_outputs: int = PUBLISHED_OUTPUTS,
) -> list[SplitHead]:
    """Return the heads of all levels, finest first.

    Args:
      arch: Options of the network.
      rngs: Generator of the initial parameters.
      depthwise: Builds the class branch from depthwise convolutions, as YOLO11 does.
      published_outputs: Channels of the published localization layer, which bound the width of the box branch.
    """
    options: dict[str, Any] = {"depthwise": depthwise, "published_outputs": published_outputs}
    finest = arch.channels(arch.widths[arch.beside])  # a P2 beside the bottom-up path has heads as wide as the others
    levels = zip(arch.widths, arch.strides, strict=True)
    return [SplitHead(arch, arch.channels(width), finest, stride, rngs, **options) for width, stride in levels]
