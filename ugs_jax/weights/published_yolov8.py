"""Mapping between names and layouts of the published YOLOv8, YOLO11, YOLO26 and YOLOv5u and those of our tree.

Layers of the published network are numbered: 0…9 are the backbone, 10 is YOLO11's attention, and the neck and the head
follow. Those of YOLOv5u have the numbers and names of YOLOv5 up to the head. A level of the head has a box branch `cv2`
and a class branch `cv3`. The box branch predicts four distributions over 16 points, which `dfl` holds; YOLO26's
predicts four distances. YOLO26 has a second head, `one2one_cv2` and `one2one_cv3`, which finds boxes without
suppression. Our networks have the first head alone.
"""

import re
from collections.abc import Mapping
from typing import get_args

import numpy as np

from ugs_jax.detectors import YOLO11, YOLO26, Architecture, Network, YOLO11LinearPool, YOLOv5u, YOLOv8, YOLOv8LinearPool
from ugs_jax.detectors.levels import AnchorSizes, pyramid_strides
from ugs_jax.detectors.network_options import Size
from ugs_jax.objectives import DFL, SideRegression
from ugs_jax.weights import published
from ugs_jax.weights.layouts import (
    LEAVES,
    Shape,
    check_head,
    published_shape,
    sorted_names,
    template,
    to_ours,
    to_theirs,
)

DISTRIBUTIONS = DFL(bins=16)
"""Objective of the published heads of YOLOv8, YOLO11 and YOLOv5u."""
DISTANCES = SideRegression()
"""Objective of the published heads of YOLO26."""
SECOND_HEAD = re.compile(r"model\.\d+\.one2one_cv[23]\..*")
"""Names of the second head of YOLO26."""

_POOL = "model.9.cv1"
_STEM = (6, 6)
"""Rows and columns of the first convolution of YOLOv5u."""
_BACKBONE = ("stem", "downs/0", "blocks/0", "downs/1", "blocks/1", "downs/2", "blocks/2", "downs/3", "blocks/3", "pool")
_NECK: dict[bool, dict[str, tuple[int, ...]]] = {
    False: {"tops": (12, 15), "downs": (16, 19), "bottoms": (18, 21)},
    True: {"tops": (12, 15, 18), "downs": (19, 22, 25), "bottoms": (21, 24, 27)},
}
_HEAD = {False: 22, True: 28}
_BLOCKS = {
    "enter": "cv1", "bypass": "cv2", "first": "cv1", "second": "cv2", "reduce": "cv1", "chain": "m",
    "attention": "attn", "qkv": "qkv", "project": "proj", "position": "pe", "expand": "ffn.0",
}  # fmt: skip


def is_published(shapes: Mapping[str, Shape]) -> bool:
    """Return True for names of a network with the head of YOLOv8."""
    return any(re.fullmatch(r"model\.\d+\.cv3\.0\.2\.weight", name) for name in shapes)


def architecture_of(shapes: Mapping[str, Shape], linear: frozenset[str]) -> Architecture:
    """Return the architecture of a network with published names and shapes.

    Args:
      shapes: Shapes by name, such as `model.0.conv.weight`.
      linear: Names of the convolutions that the file says have no activation. A state dict does not say it.

    Raises:
      ValueError: The network is not YOLOv8, YOLO11, YOLO26 or YOLOv5u with heads P3–P5 or P2–P5. The message names
        the difference.
    """
    stem = shapes.get("model.0.conv.weight", ())
    network = _network_of(shapes, stem, _POOL in linear)
    head, p2 = _head_of(shapes, network)
    classes = shapes[f"model.{head}.cv3.0.2.weight"][0]
    if network is not YOLO26 and any(map(SECOND_HEAD.fullmatch, shapes)):
        raise ValueError("expected YOLOv8, YOLO11 or YOLO26, got YOLOv10, which has a second head; it is not supported")
    candidates, kernel = [], _STEM if network is YOLOv5u else (3, 3)
    for size in get_args(Size):
        arch = Architecture(size, p2, classes, _anchors(p2), objective_of(network).num_outputs, network=network)
        if stem == (arch.channels(64), 3, *kernel):
            candidates.append(arch)
    if not candidates:
        raise ValueError(
            f"expected {network.title}{network.variant}, whose model.0.conv.weight is [channels, 3, {kernel[0]}, "
            f"{kernel[1]}] with channels of a size n to x, got {list(stem) or 'no such tensor'}"
        )
    check_head(candidates[0])
    # Sizes m and l of YOLO11 have stems of equal width and differ in depth.
    fitting = [arch for arch in candidates if published_shapes(arch).keys() <= shapes.keys()]
    return max(fitting or candidates[:1], key=lambda arch: arch.scale.depth)


def objective_of(network: type[Network]) -> DFL | SideRegression:
    """Return the objective of the published heads of a network."""
    return DISTANCES if issubclass(network, YOLO26) else DISTRIBUTIONS


def _network_of(shapes: Mapping[str, Shape], stem: Shape, linear_pool: bool) -> type[Network]:
    if stem[2:] == _STEM:
        if linear_pool:
            raise ValueError(
                f"{_POOL}: expected SiLU as its activation, got none; a YOLOv5u without it, as releases 8.4.0 to "
                "8.4.140 build it, is not supported"
            )
        return YOLOv5u
    attention = "model.10.m.0.attn.qkv.conv.weight" in shapes
    regressions = [name for name in shapes if re.fullmatch(r"model\.\d+\.cv2\.0\.2\.weight", name)]
    regresses = any(shapes[name][:1] == (DISTANCES.num_outputs,) for name in regressions)
    return YOLO26 if attention and regresses else _NETWORKS[attention, linear_pool]


def _head_of(shapes: Mapping[str, Shape], network: type[Network]) -> tuple[int, bool]:
    heads = sorted(name for name in shapes if re.fullmatch(r"model\.\d+\.cv3\.0\.2\.weight", name))
    layers = {p2: _head_layer(network, p2) for p2 in (False, True)}
    for p2, layer in layers.items():
        if heads == [f"model.{layer}.cv3.0.2.weight"]:
            return layer, p2
    expected = " or ".join(map(str, layers.values()))
    raise ValueError(
        f"expected the head as layer {expected} (P3–P5 or P2–P5), got {', '.join(heads)[:200]}; networks with P6 and "
        "others are not supported"
    )


def _anchors(p2: bool) -> AnchorSizes:
    """Return one anchor of four strides for each level. The published objective does not use their sides."""
    return tuple(((4.0 * stride, 4.0 * stride),) for stride in pyramid_strides(p2))


def published_shapes(arch: Architecture) -> dict[str, Shape]:
    """Return shapes of all parameters and batch statistics by published name."""
    return {published_name(path, arch): published_shape(shape) for path, shape in template(arch).items()}


def from_published(arrays: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, np.ndarray]:
    """Return our arrays by path, float32, from the published arrays, whose names and shapes have been checked."""
    return {
        path: np.ascontiguousarray(to_ours(np.asarray(arrays[published_name(path, arch)], np.float32)))
        for path in template(arch)
    }


def to_published(ours: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, np.ndarray]:
    """Return published arrays by name, complete for a strict `load_state_dict`; the inverse of `from_published`.

    The second head of YOLO26 is a copy of the first, as at the start of its training.

    Args:
      ours: Parameters and batch statistics, by path, of a network with the objective `objective_of(arch.network)`.
      arch: Architecture of the network.
    """
    published = {}
    for path, array in ours.items():
        name = published_name(path, arch)
        published[name] = to_theirs(array)
        if name.endswith(".running_var"):
            published[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    head = f"model.{_head_layer(arch.network, arch.p2)}"
    if issubclass(arch.network, YOLO26):
        first = {name: array for name, array in published.items() if name.startswith(f"{head}.")}
        published |= {name.replace(f"{head}.", f"{head}.one2one_"): array for name, array in first.items()}
    else:
        points = np.arange(DISTRIBUTIONS.bins, dtype=np.float32)
        published[f"{head}.dfl.conv.weight"] = points[None, :, None, None]
    return {
        name: published[name] if published[name].ndim == 0 else np.ascontiguousarray(published[name])
        for name in sorted_names(published)
    }


def published_name(path: str, arch: Architecture) -> str:
    """Return the published name of an array of our trees."""
    part, *words = path.split("/")
    if part == "heads":
        return _name_in_head(words, arch)
    if arch.network is YOLOv5u:
        return published.published_name(path, arch.p2)
    *words, kind, leaf = words
    if part == "backbone" and words[0] == "attention":
        layer, blocks = 10, words[1:]
    elif part == "backbone":
        count = 1 if words[0] in ("stem", "pool") else 2
        layer, blocks = _BACKBONE.index("/".join(words[:count])), words[count:]
    else:
        layer, blocks = _NECK[arch.p2][words[0]][int(words[1])] + _shift(arch.network), words[2:]
    return ".".join(["model", str(layer), *_inside(blocks), LEAVES[f"{kind}/{leaf}"]])


def _inside(blocks: list[str]) -> list[str]:
    """Return the published words for the path of a convolution inside a block."""
    if blocks and blocks[-1] == "merge":  # cv3 where there is a bypass (C3k), else cv2
        return [*_inside(blocks[:-1]), "cv3" if len(blocks) > 1 else "cv2"]
    if blocks and blocks[-1] == "reduce" and blocks[0] == "chain":
        return [*_inside(blocks[:-1]), "ffn.1"]
    return [_BLOCKS.get(word, word) for word in blocks if word != "parts"]


def _name_in_head(words: list[str], arch: Architecture) -> str:
    level, branch, *rest = words
    head = f"model.{_head_layer(arch.network, arch.p2)}"
    if branch in ("localize", "score"):
        return (
            f"{head}.{'cv2' if branch == 'localize' else 'cv3'}.{level}.2.{'weight' if rest[0] == 'kernel' else 'bias'}"
        )
    index, kind, leaf = rest
    depthwise = issubclass(arch.network, YOLOv8) and arch.network.depthwise_scores and branch == "classify"
    layer = f"{int(index) // 2}.{int(index) % 2}" if depthwise else index
    return f"{head}.{'cv2' if branch == 'box' else 'cv3'}.{level}.{layer}.{LEAVES[f'{kind}/{leaf}']}"


def _head_layer(network: type[Network], p2: bool) -> int:
    return published.HEAD[p2] if network is YOLOv5u else _HEAD[p2] + _shift(network)


def _shift(network: type[Network]) -> int:
    return int(issubclass(network, YOLO11))


_NETWORKS: dict[tuple[bool, bool], type[Network]] = {
    (False, False): YOLOv8,
    (False, True): YOLOv8LinearPool,
    (True, False): YOLO11,
    (True, True): YOLO11LinearPool,
}
"""Networks by whether they have attention, and whether the first convolution of the pooling block is linear."""
