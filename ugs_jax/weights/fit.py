"""Weights into a detector that may have other classes, another objective or another finest level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugs_jax.detectors import Architecture, Detector
from ugs_jax.weights.head_start import START_WIDTH, layers_from_regression
from ugs_jax.weights.published import flat_leaves
from ugs_jax.weights.read import read_weights
from ugs_jax.weights.weights import Weights, decoding_of, name_of

_BY_LEVEL = ("neck/downs", "neck/bottoms", "heads")
"""Lists that begin at the finest level, so P2 moves the others by one; the rest begin at the coarsest."""


@dataclass(frozen=True)
class Report:
    """What became of every array of a detector.

    Attributes:
      origin: where the weights come from.
      loaded: paths of arrays that were loaded, in part for those in `initialised`, too.
      initialised: paths of arrays that are as they were before, wholly or in part, and why.
      unused: paths of arrays in the weights that the detector has no place for, and why.
      notes: what else should be known.
    """

    origin: str
    loaded: tuple[str, ...]
    initialised: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: one line for each layer and reason."""
        whole = len(self.loaded) + len([path for path in self.initialised if path not in self.loaded])
        lines = [f"{self.origin}: {len(self.loaded)} of {whole} arrays loaded"]
        for title, paths in (("initialised", self.initialised), ("not used", self.unused)):
            layers = dict.fromkeys((_layer(path), reason) for path, reason in paths.items())
            lines += [f"{title}: {layer}: {reason}" for layer, reason in layers]
        return [*lines, *self.notes]


def load_weights(path: Path | str, detector: Detector, params: Any, stats: Any) -> tuple[Any, Any, Report]:
    """Read a file of weights and put them into a detector.

    Args:
      path: `.pt` of YOLOv5 v6 or v7, or `.safetensors`; see `read_weights`.
      detector: the network.
      params: its fresh parameters, from `detector.init`; what the file has nothing for stays as it is here.
      stats: its fresh batch statistics.

    Returns:
      Parameters, batch statistics, and what was loaded.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged or hostile file, another architecture, or another size than the detector's.
    """
    return fit_weights(read_weights(Path(path)), detector, params, stats)


def fit_weights(
    weights: Weights, detector: Detector, params: Any, stats: Any, *, width: Sequence[float] = START_WIDTH
) -> tuple[Any, Any, Report]:
    """Put weights into a detector: layers by their level, rows of the heads by what they predict.

    Objectness is loaded whatever the classes are. The localization layer is loaded if its outputs mean the same; if the
    weights regress boxes and the objective can start from that, as UGS and DFL can, it is made from the published layer
    (`layers_from_regression`) and decodes to about the same boxes. Other layers of P2, and the block that makes P3 from
    it, are unchanged if the weights have no P2.

    Args:
      weights: from `read_weights`.
      detector: the network.
      params: its fresh parameters.
      stats: its fresh batch statistics.
      width: Standard deviation of the distributions that a made layer predicts for (x, y, log w, log h), centre in
        strides.

    Returns:
      As `load_weights` does.

    Raises:
      ValueError: another size than the detector's.
    """
    source, target = weights.arch, detector.arch
    check_size(weights, target)
    made = layers_from_regression(weights, detector, params, np.asarray(width, np.float64))
    fitting = _Fitting(weights, detector, made)
    params, stats = _replaced(params, fitting), _replaced(stats, fitting)
    unused = {path: f"{name_of(target)} has no such layer" for path in fitting.waiting.values()}
    same = source.anchors == target.anchors
    notes = () if same else ("anchors: the detector's, which are not those of the weights",)
    if made:
        notes = (*notes, f"localization: layers of {type(detector.localization).__name__} made from regression layers")
    return params, stats, Report(weights.origin, tuple(fitting.loaded), fitting.initialised, unused, notes)


def check_size(weights: Weights, target: Architecture) -> None:
    """Whether weights suit an architecture at all.

    Raises:
      ValueError: they are of another size.
    """
    source = weights.arch
    if source.size != target.size:
        raise ValueError(
            f"{weights.origin}: expected weights of {name_of(target)}, got those of {name_of(source)}; give "
            f"weights of size {target.size}, or make the detector one of size {source.size}"
        )


class _Fitting:
    def __init__(self, weights: Weights, detector: Detector, made: Mapping[str, np.ndarray]) -> None:
        self.weights, self.target, self.made = weights, detector.arch, made
        self.decoding = decoding_of(detector.localization)
        levels = int(self.target.p2) - int(weights.arch.p2)
        self.waiting = {_moved(path, levels): path for path in weights.arrays}
        self.loaded: list[str] = []
        self.initialised: dict[str, str] = {}

    def array(self, path: str, fresh: np.ndarray) -> np.ndarray:
        """What goes to `path` of the detector."""
        if path in self.made:
            self.waiting.pop(path, None)
            self.loaded.append(path)
            return self.made[path]
        if path not in self.waiting:
            self.initialised[path] = f"{self.weights.network} has no such layer"
            return fresh
        found = self.weights.arrays[self.waiting.pop(path)]
        reason = self._obstacle(path, fresh, found)
        if reason is not None:
            self.initialised[path] = reason
            return fresh
        self.loaded.append(path)
        if fresh.shape == found.shape:
            return found
        here, there = self.target.classes, self.weights.arch.classes
        self.initialised[path] = f"{here} classes here, {there} in the weights; objectness was loaded"
        return _with_objectness(fresh, found, here)

    def _obstacle(self, path: str, fresh: np.ndarray, found: np.ndarray) -> str | None:
        part, level, layer, *_ = path.split("/")
        # Per anchor; other layers have the same shape whatever the anchors, classes and localization outputs are.
        outputs = {"localize": self.weights.arch.num_outputs, "score": 1 + self.weights.arch.classes}
        by_anchor = part == "heads" and layer in outputs
        if fresh.shape[:-1] != found.shape[:-1] or (not by_anchor and fresh.shape != found.shape):
            return f"{list(fresh.shape)} here, {list(found.shape)} in the weights"
        if by_anchor and (here := len(self.target.anchors[int(level)])) != (there := found.shape[-1] // outputs[layer]):
            return f"{here} anchors here, {there} in the weights"
        if part == "heads" and layer != "score" and self.decoding != self.weights.decoding:
            return f"{self.decoding} here, {self.weights.decoding} in the weights"
        return None


def _replaced(tree: Any, fitting: _Fitting) -> Any:
    leaves = flat_leaves(tree).items()
    new = [jnp.asarray(fitting.array(path, np.asarray(leaf)), leaf.dtype) for path, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(tree), new)


def _with_objectness(fresh: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """The last axis is (anchor, 1 + classes), objectness first."""
    anchors = fresh.shape[-1] // (1 + classes)
    rows = fresh.reshape(*fresh.shape[:-1], anchors, -1).copy()
    rows[..., 0] = found.reshape(*found.shape[:-1], anchors, -1)[..., 0]
    return rows.reshape(fresh.shape)


def _moved(path: str, by: int) -> str:
    """The path of a layer in a detector with one level more or less at the fine end."""
    for place in _BY_LEVEL:
        if path.startswith(f"{place}/"):
            index, rest = path.removeprefix(f"{place}/").split("/", 1)
            return f"{place}/{int(index) + by}/{rest}"
    return path


def _layer(path: str) -> str:
    """Where a path differs from those of its neighbours: `heads/0/score`, `neck/tops/2`."""
    words = path.split("/")
    return "/".join(words[:3] if words[0] in ("heads", "neck") else words[:2])
