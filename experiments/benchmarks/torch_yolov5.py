"""YOLOv5 in PyTorch, with the layers and parameter names of `ugs_jax.detectors`; for `benchmarks.train_step` only.

Arrays are channels-last in memory (NHWC). Their axes are in PyTorch's order: [B, C, H, W].
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ugs_jax.detectors import Architecture


class Level(NamedTuple):
    """Outputs of the network at one pyramid level, with a row for each cell.

    Attributes:
      features: Features, [B, H·W, C].
      objectness: Objectness logits, [B, H·W, A].
      classes: Class logits, [B, H·W, A, N].
    """

    features: Tensor
    objectness: Tensor
    classes: Tensor


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        margin = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, margin, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        return nn.functional.silu(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """1×1 then 3×3 convolution, with a residual connection if `shortcut` is set."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.reduce, self.mix = ConvNormAct(channels, channels), ConvNormAct(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        y = self.mix(self.reduce(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    """A chain of bottlenecks on half the channels beside a plain 1×1 path."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool = True) -> None:
        super().__init__()
        hidden = outputs // 2
        self.enter, self.bypass = ConvNormAct(inputs, hidden), ConvNormAct(inputs, hidden)
        self.merge = ConvNormAct(2 * hidden, outputs)
        self.chain = nn.Sequential(*(Bottleneck(hidden, shortcut) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H, W]."""
        return self.merge(torch.cat([self.chain(self.enter(x)), self.bypass(x)], dim=1))


class SPPF(nn.Module):
    """Three chained 5×5 max-pools, concatenated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce, self.merge = ConvNormAct(inputs, inputs // 2), ConvNormAct(2 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H, W]."""
        pools = [self.reduce(x)]
        for _ in range(3):
            pools.append(nn.functional.max_pool2d(pools[-1], 5, 1, 2))
        return self.merge(torch.cat(pools, dim=1))


class Backbone(nn.Module):
    """Backbone, from images to the feature maps P2 to P5."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        widths = [arch.channels(base) for base in (64, 128, 256, 512, 1024)]
        depths = [arch.repeats(base) for base in (3, 6, 9, 3)]
        self.stem = ConvNormAct(3, widths[0], 6, 2, 2)
        self.downs = nn.ModuleList(ConvNormAct(a, b, 3, 2) for a, b in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(C3(c, c, depth) for c, depth in zip(widths[1:], depths, strict=True))
        self.pool = SPPF(widths[-1], widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in 0…1 → four maps, finest first."""
        x, maps = self.stem(x), []
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(down(x))
            maps.append(x)
        return [*maps[:-1], self.pool(x)]


class Neck(nn.Module):
    """Top-down then bottom-up path aggregation."""

    def __init__(self, arch: Architecture, bases: tuple[int, ...]) -> None:
        super().__init__()
        c, n, pairs = arch.channels, arch.repeats, list(itertools.pairwise(bases))
        self.laterals = nn.ModuleList(ConvNormAct(c(coarse), c(fine)) for fine, coarse in reversed(pairs))
        self.tops = nn.ModuleList(
            C3(2 * c(fine), c(fine), n(1 if fine == 128 else 3), shortcut=False) for fine, _ in reversed(pairs)
        )
        self.downs = nn.ModuleList(ConvNormAct(c(fine), c(fine), 3, 2) for fine, _ in pairs)
        self.bottoms = nn.ModuleList(C3(2 * c(fine), c(coarse), n(3), shortcut=False) for fine, coarse in pairs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Feature maps → feature maps of the same shapes, finest first."""
        x, skips = maps[-1], []
        for lateral, top, finer in zip(self.laterals, self.tops, reversed(maps[:-1]), strict=True):
            skips.append(lateral(x))
            x = top(torch.cat([nn.functional.interpolate(skips[-1], scale_factor=2.0, mode="nearest"), finer], dim=1))
        outputs = [x]
        for down, bottom, skip in zip(self.downs, self.bottoms, reversed(skips), strict=True):
            outputs.append(bottom(torch.cat([down(outputs[-1]), skip], dim=1)))
        return outputs


class Head(nn.Module):
    """Objectness and class layer of one level, and the localization layer, which the loss applies to some cells."""

    def __init__(self, arch: Architecture, width: int, anchors: int) -> None:
        super().__init__()
        self.anchors = anchors
        self.score = nn.Conv2d(width, anchors * (1 + arch.classes), 1)
        self.localize = nn.Linear(width, anchors * arch.num_outputs)

    def forward(self, x: Tensor) -> Level:
        """[B, C, H, W] → the level, scores in float32."""
        rows = lambda y: y.permute(0, 2, 3, 1).flatten(1, 2)  # noqa: E731
        scores = rows(self.score(x)).float().unflatten(-1, (self.anchors, -1))
        return Level(rows(x), scores[..., 0], scores[..., 1:])


class YOLOv5(nn.Module):
    """Backbone, neck and heads."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        bases = (128, 256, 512, 1024) if arch.p2 else (256, 512, 1024)
        self.skip = 0 if arch.p2 else 1
        self.backbone, self.neck = Backbone(arch), Neck(arch, bases)
        self.heads = nn.ModuleList(
            Head(arch, arch.channels(base), len(sizes)) for base, sizes in zip(bases, arch.anchors, strict=True)
        )

    def forward(self, images: Tensor) -> list[Level]:
        """[B, 3, H, W] in 0…1 → levels, finest first."""
        maps = self.neck(self.backbone(images)[self.skip :])
        return [head(x) for head, x in zip(self.heads, maps, strict=True)]


_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def state_dict_of(params: Mapping[Any, Any], stats: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return parameters and batch statistics of `Detector.init` with the names and layouts of this `YOLOv5`."""
    state: dict[str, Tensor] = {}
    for tree in (params, stats):
        for path, array in _leaves(tree):
            *module, leaf = path
            state[".".join([*module, _LEAVES[leaf]])] = torch.from_numpy(np.array(_torch_layout(array)))
    return state


def load(network: YOLOv5, params: Mapping[Any, Any], stats: Mapping[Any, Any]) -> None:
    """Load all parameters and statistics of `Detector.init` into a network.

    Raises:
      RuntimeError: Names or shapes do not match.
    """
    given, own = state_dict_of(params, stats), network.state_dict()
    # In JAX, a 1×1 convolution is a matrix. PyTorch's counters of batches have no counterpart in JAX.
    shaped = {name: tensor.reshape(own[name].shape) if name in own else tensor for name, tensor in given.items()}
    counters = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**shaped, **counters})


def _leaves(tree: Mapping[Any, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], np.ndarray]]:
    leaves: list[tuple[tuple[str, ...], np.ndarray]] = []
    for key, value in tree.items():
        at = (*path, str(key))
        leaves += _leaves(value, at) if isinstance(value, Mapping) else [(at, np.asarray(value))]
    return leaves


def _torch_layout(array: np.ndarray) -> np.ndarray:
    """Convert kernels [h, w, in, out] or [in, out] to [out, in, h, w] or [out, in]."""
    return np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array
