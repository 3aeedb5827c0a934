"""Names and layouts that the published networks share: leaves of a layer, convolutions, and shapes of our trees."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from ugs_jax.detectors import Architecture, network_shapes

Shape = tuple[int, ...]

LEAVES = {
    "conv/kernel": "conv.weight",
    "norm/scale": "bn.weight",
    "norm/bias": "bn.bias",
    "norm/mean": "bn.running_mean",
    "norm/var": "bn.running_var",
}
"""Published names of the arrays of a convolution with normalisation, by our path."""
_MOST = {"classes": 10_000, "outputs": 10_000, "hidden units": 10_000, "anchors": 100}


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


@lru_cache(maxsize=4)  # one file asks several times
def template(arch: Architecture) -> Mapping[str, Shape]:
    """Return shapes of parameters and batch statistics by path in our trees (`neck/tops/0/merge/conv/kernel`)."""
    params, stats = network_shapes(arch)
    leaves = {**flat_leaves(params), **flat_leaves(stats)}
    return MappingProxyType({path: tuple(leaf.shape) for path, leaf in leaves.items()})


def flat_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path: words and numbers, separated by `/`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def sorted_names(names: Iterable[str]) -> list[str]:
    """Sort names by the numbers of their layers."""
    return sorted(names, key=lambda name: [int(word) if word.isdecimal() else word for word in name.split(".")])


def published_shape(ours: Shape) -> Shape:
    """Return the published shape of an array of our shape."""
    if len(ours) == 2:
        return (ours[1], ours[0], 1, 1)
    return (ours[3], ours[2], ours[0], ours[1]) if len(ours) == 4 else ours


def to_ours(array: np.ndarray) -> np.ndarray:
    """Return an array in our layout, from the published [out, in, rows, columns]."""
    if array.ndim != 4:
        return array
    return array[:, :, 0, 0].T if array.shape[2:] == (1, 1) else array.transpose(2, 3, 1, 0)


def to_theirs(array: np.ndarray) -> np.ndarray:
    """Return an array in the published layout; the inverse of `to_ours`."""
    if array.ndim == 2:
        return array.T[:, :, None, None]
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
