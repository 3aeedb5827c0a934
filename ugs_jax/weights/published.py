"""Mapping, one to one, between names and layouts of the published YOLOv5 v6 and v7 and those of our tree.

Layers of the published network are numbered: 0…9 are the backbone; from 10 on follow the top-down path, the bottom-up
path and the head, which are longer with P2. Its convolutions are [out, in, rows, columns]; ours are
[rows, columns, in, out], or [in, out] for 1×1. Its head is one 1×1 convolution per level with
(x, y, w, h, objectness, classes…) per anchor; ours has two per level.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, get_args

import jax
import numpy as np

from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, YOLOv5
from ugs_jax.detectors.levels import AnchorSizes, pyramid_strides
from ugs_jax.detectors.network_options import Size
from ugs_jax.objectives import BoxRegression
from ugs_jax.objectives.quality import EVIDENCE
from ugs_jax.objectives.second_stage import POINTS

Shape = tuple[int, ...]

_BACKBONE = {
    "stem": 0, "downs/0": 1, "blocks/0": 2, "downs/1": 3, "blocks/1": 4, "downs/2": 5, "blocks/2": 6, "downs/3": 7,
    "blocks/3": 8, "pool": 9,
}  # fmt: skip
_NECK: dict[bool, dict[str, tuple[int, ...]]] = {
    False: {"laterals": (10, 14), "tops": (13, 17), "downs": (18, 21), "bottoms": (20, 23)},
    True: {"laterals": (10, 14, 18), "tops": (13, 17, 21), "downs": (22, 25, 28), "bottoms": (24, 27, 30)},
}
_HEAD = {False: 24, True: 31}
_SPPF = {"reduce": "cv1", "merge": "cv2"}
_C3 = {"enter": "cv1", "bypass": "cv2", "merge": "cv3"}
_BOTTLENECK = {"reduce": "cv1", "mix": "cv2"}
_LEAVES = {
    "conv/kernel": "conv.weight",
    "norm/scale": "bn.weight",
    "norm/bias": "bn.bias",
    "norm/mean": "bn.running_mean",
    "norm/var": "bn.running_var",
}
_BOX = 4  # localization outputs per anchor; objectness and classes follow
_MOST = {"classes": 10_000, "outputs": 10_000, "hidden units": 10_000, "anchors": 100}


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
        raise ValueError(f"expected model.{_HEAD[p2]}.anchors, as networks with P2 have no published anchors; got none")
    anchors = COCO_ANCHORS if units is None else _in_pixels(units, p2)
    outputs, count = shapes[f"model.{_HEAD[p2]}.m.0.weight"][0], len(anchors[0])
    classes = outputs // count - _BOX - 1
    if outputs != count * (_BOX + 1 + classes):
        raise ValueError(f"expected the same number of outputs for each of {count} anchors, got {outputs} in total")
    arch = Architecture(size, p2, classes, anchors)
    check_head(arch)
    return arch


def check_head(arch: Architecture) -> None:
    """Check that the numbers of a head, which come from a file, are plausible.

    Raises:
      ValueError: A number of classes, outputs, hidden units or anchors is zero or very large.
    """
    counts = [("classes", arch.classes), ("outputs", arch.num_outputs)]
    counts += [("hidden units", width) for width in (arch.second_stage, arch.quality) if width]
    counts += [("anchors", len(level)) for level in arch.anchors]
    for name, count in counts:
        if not 1 <= count <= _MOST[name]:
            raise ValueError(f"expected 1 to {_MOST[name]} {name}, got {count}")


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
    for p2, layer in _HEAD.items():
        if heads == [f"model.{layer}.m.0.weight"] and len(shapes[heads[0]]) == 4:
            return p2
    raise ValueError(
        f"expected the head as layer {_HEAD[False]} (P3–P5) or {_HEAD[True]} (P2–P5), got "
        f"{', '.join(heads) or 'none'}; networks with P6 and others are not supported: give the file without P6, such "
        "as yolov5s.pt instead of yolov5s6.pt"
    )


def anchors_name(shapes: Mapping[str, Shape]) -> str | None:
    """Return the name of the buffer of anchors in units of their level's stride, [levels, anchors, 2], or None."""
    names = [f"model.{layer}.anchors" for layer in _HEAD.values() if f"model.{layer}.anchors" in shapes]
    return names[0] if names else None


def _in_pixels(units: np.ndarray, p2: bool) -> AnchorSizes:
    strides = np.array(pyramid_strides(p2), np.float32)
    shaped = units.ndim == 3 and units.shape[::2] == (len(strides), 2) and units.size
    if not shaped or not (np.isfinite(units) & (units > 0)).all():
        raise ValueError(f"expected positive anchors [{len(strides)} levels, anchors, 2], got {list(units.shape)}")
    pixels = units.astype(np.float32) * strides[:, None, None]
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in pixels)


def template(arch: Architecture) -> dict[str, Shape]:
    """Return shapes of parameters and batch statistics by path in our trees (`neck/tops/0/merge/conv/kernel`)."""
    shapes = dict(_with_one_output(arch.size, arch.network, arch.p2))
    for level, sizes in enumerate(arch.anchors):
        for part, outputs in (("score", 1 + arch.classes), ("localize", arch.num_outputs)):
            kernel, bias = f"heads/{level}/{part}/kernel", f"heads/{level}/{part}/bias"
            shapes[bias] = (len(sizes) * outputs,)
            shapes[kernel] = (shapes[kernel][0], *shapes[bias])
        width = shapes[f"heads/{level}/score/kernel"][0]
        shapes |= {f"heads/{level}/{name}": shape for name, shape in _added_layers(arch, width).items()}
    return shapes


def _added_layers(arch: Architecture, width: int) -> dict[str, Shape]:
    """Return the shapes of the layers that objectives add to a head of `width` channels."""
    second, quality = arch.second_stage, arch.quality
    shapes: dict[str, Shape] = {}
    if second:
        shapes |= {"second/points/kernel": (POINTS * width, second), "second/points/bias": (second,)}
        shapes |= {"second/shape/kernel": (arch.num_outputs, second), "second/out/kernel": (second, arch.num_outputs)}
    if quality:
        shapes |= {"quality/hidden/kernel": (EVIDENCE, quality), "quality/hidden/bias": (quality,)}
        shapes |= {"quality/out/kernel": (quality, 1), "quality/out/bias": (1,)}
    return shapes


@lru_cache(maxsize=4)  # one file asks several times
def _with_one_output(size: Size, network: type[YOLOv5], p2: bool) -> Mapping[str, Shape]:
    arch = Architecture(size, p2, 1, (((1.0, 1.0),),) * len(pyramid_strides(p2)), network=network)
    params, stats = Detector(arch, BoxRegression()).shapes()
    leaves = {**flat_leaves(params), **flat_leaves(stats)}
    return MappingProxyType({path: tuple(leaf.shape) for path, leaf in leaves.items()})


def flat_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path: words and numbers, separated by `/`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def published_shapes(arch: Architecture) -> dict[str, Shape]:
    """Return shapes of all parameters and batch statistics by published name."""
    shapes = template(arch)
    theirs = {_published_name(p, arch.p2): _published_shape(s) for p, s in shapes.items() if not _in_head(p)}
    for level, sizes in enumerate(arch.anchors):
        outputs = len(sizes) * (_BOX + 1 + arch.classes)
        name, width = f"model.{_HEAD[arch.p2]}.m.{level}", shapes[f"heads/{level}/score/kernel"][0]
        theirs |= {f"{name}.weight": (outputs, width, 1, 1), f"{name}.bias": (outputs,)}
    return theirs


def from_published(arrays: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, np.ndarray]:
    """Return our arrays by path, float32, from the published arrays, whose names and shapes have been checked."""
    wide = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    ours = {path: _to_ours(wide[_published_name(path, arch.p2)]) for path in template(arch) if not _in_head(path)}
    for level, sizes in enumerate(arch.anchors):
        name = f"model.{_HEAD[arch.p2]}.m.{level}"
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
        name = _published_name(path, arch.p2)
        published[name] = _to_theirs(ours[path])
        if name.endswith(".running_var"):
            published[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    head = _HEAD[arch.p2]
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
        for name in _sorted(published)
    }


def _sorted(names: Iterable[str]) -> list[str]:
    """Sort names by the numbers of their layers."""
    return sorted(names, key=lambda name: [int(word) if word.isdecimal() else word for word in name.split(".")])


def _in_head(path: str) -> bool:
    return path.startswith("heads/")


def _published_name(path: str, p2: bool) -> str:
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
    return ".".join(["model", str(layer), *blocks, _LEAVES[f"{kind}/{name}"]])


def _published_shape(ours: Shape) -> Shape:
    if len(ours) == 2:
        return (ours[1], ours[0], 1, 1)
    return (ours[3], ours[2], ours[0], ours[1]) if len(ours) == 4 else ours


def _to_ours(array: np.ndarray) -> np.ndarray:
    if array.ndim != 4:
        return array
    return array[:, :, 0, 0].T if array.shape[2:] == (1, 1) else array.transpose(2, 3, 1, 0)


def _to_theirs(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return array.T[:, :, None, None]
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
