"""Mapping, one to one, between names and layouts of the published YOLOv5 v6 and v7 and those of our tree.

Layers of the published network are numbered: 0…9 are the backbone; from 10 on follow the top-down path, the bottom-up
path and the head, which are longer with P2. Its convolutions are [out, in, rows, columns]; ours are
[rows, columns, in, out], or [in, out] for 1×1. Its head is one 1×1 convolution per level with
(x, y, w, h, objectness, classes…) per anchor; ours has two per level.
"""

import re
from collections.abc import Mapping
from typing import get_args

import numpy as np

from ugs_jax.detectors import COCO_ANCHORS, Architecture
from ugs_jax.detectors.levels import AnchorSizes, pyramid_strides
from ugs_jax.detectors.network_options import Size
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

_BACKBONE = {
    "stem": 0, "downs/0": 1, "blocks/0": 2, "downs/1": 3, "blocks/1": 4, "downs/2": 5, "blocks/2": 6, "downs/3": 7,
    "blocks/3": 8, "pool": 9,
}  # fmt: skip
_NECK: dict[bool, dict[str, tuple[int, ...]]] = {
    False: {"laterals": (10, 14), "tops": (13, 17), "downs": (18, 21), "bottoms": (20, 23)},
    True: {"laterals": (10, 14, 18), "tops": (13, 17, 21), "downs": (22, 25, 28), "bottoms": (24, 27, 30)},
}
HEAD = {False: 24, True: 31}
"""Number of the head, without and with P2."""
_SPPF = {"reduce": "cv1", "merge": "cv2"}
_C3 = {"enter": "cv1", "bypass": "cv2", "merge": "cv3"}
_BOTTLENECK = {"reduce": "cv1", "mix": "cv2"}
_BOX = 4  # localization outputs per anchor; objectness and classes follow


def architecture_of(shapes: Mapping[str, Shape], units: np.ndarray | None) -> Architecture:
    """Return the architecture of a network with published names and shapes.

    Args:
      shapes: Shapes by name, such as `model.0.conv.weight`.
      units: Anchors of the file in units of the stride of their level, [levels, anchors, 2], or None if they are
        missing. In that case the anchors published for COCO are used.

    Raises:
      ValueError: The network is not YOLOv5 v6 or v7 with heads P3–P5 or P2–P5. The message names the difference.
    """
    size, p2 = _size(shapes.get("model.0.conv.weight", ())), _has_p2(shapes)
    if units is None and p2:
        raise ValueError(f"expected model.{HEAD[p2]}.anchors, as networks with P2 have no published anchors; got none")
    anchors = COCO_ANCHORS if units is None else _in_pixels(units, p2)
    outputs, count = shapes[f"model.{HEAD[p2]}.m.0.weight"][0], len(anchors[0])
    classes = outputs // count - _BOX - 1
    if outputs != count * (_BOX + 1 + classes):
        raise ValueError(f"expected the same number of outputs for each of {count} anchors, got {outputs} in total")
    arch = Architecture(size, p2, classes, anchors)
    check_head(arch)
    return arch


def _size(stem: Shape) -> Size:
    widths = {Architecture(size, False, 1, COCO_ANCHORS).channels(64): size for size in get_args(Size)}
    if len(stem) != 4 or stem[1:] != (3, 6, 6) or stem[0] not in widths:
        raise ValueError(
            "expected YOLOv5 v6 or v7, whose model.0.conv.weight is [channels, 3, 6, 6] with channels among "
            f"{sorted(widths)}, got {list(stem) or 'no such tensor'}; give a checkpoint of YOLOv5 v6 or v7"
        )
    return widths[stem[0]]


def _has_p2(shapes: Mapping[str, Shape]) -> bool:
    heads = [name for name in sorted(shapes) if re.fullmatch(r"model\.\d+\.m\.0\.weight", name)]
    for p2, layer in HEAD.items():
        if heads == [f"model.{layer}.m.0.weight"] and len(shapes[heads[0]]) == 4:
            return p2
    raise ValueError(
        f"expected the head as layer {HEAD[False]} (P3–P5) or {HEAD[True]} (P2–P5), got "
        f"{', '.join(heads) or 'none'}; networks with P6 and others are not supported: give the file without P6, such "
        "as yolov5s.pt instead of yolov5s6.pt"
    )


def anchors_name(shapes: Mapping[str, Shape]) -> str | None:
    """Return the name of the buffer of anchors in units of their level's stride, [levels, anchors, 2], or None."""
    names = [f"model.{layer}.anchors" for layer in HEAD.values() if f"model.{layer}.anchors" in shapes]
    return names[0] if names else None


def _in_pixels(units: np.ndarray, p2: bool) -> AnchorSizes:
    strides = np.array(pyramid_strides(p2), np.float32)
    shaped = units.ndim == 3 and units.shape[::2] == (len(strides), 2) and units.size
    if not shaped or not (np.isfinite(units) & (units > 0)).all():
        raise ValueError(f"expected positive anchors [{len(strides)} levels, anchors, 2], got {list(units.shape)}")
    pixels = units.astype(np.float32) * strides[:, None, None]
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in pixels)


def published_shapes(arch: Architecture) -> dict[str, Shape]:
    """Return shapes of all parameters and batch statistics by published name."""
    shapes = template(arch)
    theirs = {published_name(p, arch.p2): published_shape(s) for p, s in shapes.items() if not _in_head(p)}
    for level, sizes in enumerate(arch.anchors):
        outputs = len(sizes) * (_BOX + 1 + arch.classes)
        name, width = f"model.{HEAD[arch.p2]}.m.{level}", shapes[f"heads/{level}/score/kernel"][0]
        theirs |= {f"{name}.weight": (outputs, width, 1, 1), f"{name}.bias": (outputs,)}
    return theirs


def from_published(arrays: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, np.ndarray]:
    """Return our arrays by path, float32, from the published arrays, whose names and shapes have been checked."""
    wide = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    ours = {path: to_ours(wide[published_name(path, arch.p2)]) for path in template(arch) if not _in_head(path)}
    for level, sizes in enumerate(arch.anchors):
        name = f"model.{HEAD[arch.p2]}.m.{level}"
        weight = wide[f"{name}.weight"][:, :, 0, 0].reshape(len(sizes), _BOX + 1 + arch.classes, -1)
        bias = wide[f"{name}.bias"].reshape(len(sizes), -1)
        for part, cut in (("localize", slice(_BOX)), ("score", slice(_BOX, None))):
            ours[f"heads/{level}/{part}/kernel"] = weight[:, cut].reshape(-1, weight.shape[-1]).T
            ours[f"heads/{level}/{part}/bias"] = bias[:, cut].reshape(-1)
    return {name: np.ascontiguousarray(array) for name, array in ours.items()}


def to_published(ours: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, np.ndarray]:
    """Return published arrays by name, complete for a strict `load_state_dict`; the inverse of `from_published`.

    Args:
      ours: Parameters and batch statistics, by path, of a network that regresses boxes.
      arch: Architecture of the network.
    """
    published: dict[str, np.ndarray] = {}
    for path in filter(lambda path: not _in_head(path), ours):
        name = published_name(path, arch.p2)
        published[name] = to_theirs(ours[path])
        if name.endswith(".running_var"):
            published[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    head = HEAD[arch.p2]
    strides = np.array(arch.strides, np.float32)
    published[f"model.{head}.anchors"] = np.array(arch.anchors, np.float32) / strides[:, None, None]
    for level, sizes in enumerate(arch.anchors):
        layers = [f"heads/{level}/{part}" for part in ("localize", "score")]
        for kind, theirs in (("kernel", "weight"), ("bias", "bias")):
            rows = [ours[f"{layer}/{kind}"].T for layer in layers]  # [anchors · outputs, in] or [anchors · outputs]
            rows = [part.reshape(len(sizes), -1, *part.shape[1:]) for part in rows]
            whole = np.concatenate(rows, axis=1).reshape(-1, *rows[0].shape[2:])
            published[f"model.{head}.m.{level}.{theirs}"] = whole[:, :, None, None] if kind == "kernel" else whole
    return {
        name: published[name] if published[name].ndim == 0 else np.ascontiguousarray(published[name])
        for name in sorted_names(published)
    }


def _in_head(path: str) -> bool:
    return path.startswith("heads/")


def published_name(path: str, p2: bool) -> str:
    """Return the published name of an array of the backbone or the neck.

    Args:
      path: Path in our trees.
      p2: Whether the network has P2.
    """
    part, *words = path.split("/")
    if part == "backbone":
        block_name = "/".join(words[: 1 if words[0] in ("stem", "pool") else 2])
        layer = _BACKBONE[block_name]
    else:
        block_name = f"{words[0]}/{words[1]}"
        layer = _NECK[p2][words[0]][int(words[1])]
    *blocks, kind, name = words[block_name.count("/") + 1 :]
    if blocks and blocks[0] == "chain":
        blocks = ["m", blocks[1], _BOTTLENECK[blocks[2]]]
    elif blocks:
        blocks = [(_SPPF if block_name == "pool" else _C3)[blocks[0]]]
    return ".".join(["model", str(layer), *blocks, LEAVES[f"{kind}/{name}"]])
