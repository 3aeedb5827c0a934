"""Load weights into a detector, whose classes, objective or finest level may differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugs_jax.detectors import Architecture, Detector
from ugs_jax.weights.head_start import START_WIDTH, layers_from_published, same_heads
from ugs_jax.weights.layouts import flat_leaves
from ugs_jax.weights.read import read_weights
from ugs_jax.weights.weights import REGRESSION, Weights, decoding_of

_BY_LEVEL = ("neck/downs", "neck/bottoms", "heads")
"""Lists that begin at the finest level, so that P2 shifts the indices. All others begin at the coarsest."""


@dataclass(frozen=True)
class Report:
    """Report on loading weights: which arrays of a detector were loaded, and which were not.

    Attributes:
      origin: Source of the weights.
      loaded: Paths of the arrays that were loaded. Arrays that are also in `initialised` were loaded in part.
      initialised: Paths of the arrays that are unchanged, in whole or in part, with the reason.
      unused: Paths of the arrays in the weights for which the detector has no layer, with the reason.
      notes: Further notes.
    """

    origin: str
    loaded: tuple[str, ...]
    initialised: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as text, one line per layer and reason."""
        whole = len(self.loaded) + len([path for path in self.initialised if path not in self.loaded])
        lines = [f"{self.origin}: {len(self.loaded)} of {whole} arrays loaded"]
        for title, paths in (("initialised", self.initialised), ("not used", self.unused)):
            layers = dict.fromkeys((_layer(path), reason) for path, reason in paths.items())
            lines += [f"{title}: {layer}: {reason}" for layer, reason in layers]
        return [*lines, *self.notes]


def load_weights(path: Path | str, detector: Detector, params: Any, stats: Any) -> tuple[Any, Any, Report]:
    """Read a file of weights and put them into a detector.

    Args:
      path: File `.pt` of a published network, or `.safetensors`; see `read_weights`.
      detector: Detector to load the weights into.
      params: Fresh parameters of the detector, from `detector.init`. Those that are missing in the file are unchanged.
      stats: Fresh batch statistics of the detector.

    Returns:
      Parameters, batch statistics, and the report.

    Raises:
      FileNotFoundError: The file does not exist.
      ValueError: The file is damaged or hostile, or its architecture or size is not that of the detector.
    """
    return fit_weights(read_weights(Path(path)), detector, params, stats)


def fit_weights(
    weights: Weights, detector: Detector, params: Any, stats: Any, *, width: Sequence[float] = START_WIDTH
) -> tuple[Any, Any, Report]:
    """Load weights into a detector: layers are matched by level, and rows of the heads by the outputs they predict.

    Objectness is loaded for any classes. The localization layer is loaded if its outputs have the same meaning. If the
    objective can start from the published layer, a layer is made from it that decodes to about the same boxes
    (`layers_from_published`): UGS, SideUGS and DFL from the regression of YOLOv5, SideUGS and other settings of DFL
    from the distributions of YOLOv8, YOLO11 and YOLOv5u, SideUGS and DFL from the distances of YOLO26. If the weights
    have no P2, the other layers of P2, and the block that makes P3 from it, are unchanged. Between YOLOv5u and its
    kin with objectness, all layers but the heads are loaded.

    Args:
      weights: Weights, as `read_weights` returns them.
      detector: Detector to load the weights into.
      params: Fresh parameters of the detector.
      stats: Fresh batch statistics of the detector.
      width: Standard deviation of the distributions that a layer made from a regression predicts for (x, y, log w,
        log h), centre in strides.

    Returns:
      Parameters, batch statistics, and the report.

    Raises:
      ValueError: The weights are not of the detector's size.
    """
    source, target = weights.arch, detector.arch
    check_size(weights, target)
    made = layers_from_published(weights, detector, params, np.asarray(width, np.float64))
    fitting = _Fitting(weights, detector, made)
    params, stats = _replaced(params, fitting), _replaced(stats, fitting)
    unused = dict.fromkeys(fitting.waiting.values(), f"{target.name} has no such layer")
    same = source.anchors == target.anchors
    notes = (
        weights.notes if same else (*weights.notes, "anchors: those of the detector are kept; the weights have others")
    )
    if not same_heads(weights, target):
        kind = source.network.name
        notes = (*notes, f"heads: they start fresh; those of {source.name} fit networks of kind {kind} (Network.kind)")
    if made:
        given = "regression layers" if weights.decoding == REGRESSION else f"those of {weights.decoding}"
        notes = (*notes, f"localization: layers of {type(detector.localization).__name__} made from {given}")
    return params, stats, Report(weights.origin, tuple(fitting.loaded), fitting.initialised, unused, notes)


def check_size(weights: Weights, target: Architecture) -> None:
    """Check that weights are of the family and size of an architecture.

    Args:
      weights: Weights to check.
      target: Architecture that the weights must suit.

    Raises:
      ValueError: They are of another family or size.
    """
    source = weights.arch
    if source.network.family() is not target.network.family():
        raise ValueError(
            f"{weights.origin}: expected weights of {target.name}, got those of {source.name}, which is of another "
            f"family; give weights of {target.name}, or make the network one of kind {source.network.name}"
        )
    if source.size != target.size:
        raise ValueError(
            f"{weights.origin}: expected weights of {target.name}, got those of {source.name}; give "
            f"weights of size {target.size}, or make the detector one of size {source.size}"
        )


class _Fitting:
    def __init__(self, weights: Weights, detector: Detector, made: Mapping[str, np.ndarray]) -> None:
        self.weights, self.target, self.made = weights, detector.arch, made
        self.decoding = decoding_of(detector.localization)
        levels = int(self.target.p2) - int(weights.arch.p2)
        joined = levels - (self.target.beside - weights.arch.beside)
        self.waiting = {_moved(path, levels, joined): path for path in weights.arrays}
        self.loaded: list[str] = []
        self.initialised: dict[str, str] = {}

    def array(self, path: str, fresh: np.ndarray) -> np.ndarray:
        """Return the array for `path` of the detector, and record its source."""
        if path in self.made:
            self.waiting.pop(path, None)
            self.loaded.append(path)
            return self.made[path]
        if path not in self.waiting:
            self.initialised[path] = f"{self.weights.network} has no such layer"
            return fresh
        given = self.weights.arrays[self.waiting.pop(path)]
        reason = self._obstacle(path, fresh, given)
        if reason is not None:
            self.initialised[path] = reason
            return fresh
        self.loaded.append(path)
        if fresh.shape == given.shape:
            return given
        here, there = self.target.classes, self.weights.arch.classes
        self.initialised[path] = f"{here} classes here, {there} in the weights; objectness was loaded"
        return _with_objectness(fresh, given, here)

    def _obstacle(self, path: str, fresh: np.ndarray, given: np.ndarray) -> str | None:
        """Return the reason why an array cannot be loaded, or None."""
        part, level, layer, *_ = path.split("/")
        arch = self.weights.arch
        if part == "heads" and not same_heads(self.weights, self.target):
            return f"heads of {self.weights.network} are of another kind"
        # These have outputs for each anchor. Other layers have the same shape for any anchors, classes and outputs.
        outputs = {"localize": arch.num_outputs, "score": arch.network.has_objectness + arch.classes}
        by_anchor = part == "heads" and layer in outputs
        if fresh.shape[:-1] != given.shape[:-1] or (not by_anchor and fresh.shape != given.shape):
            return f"{list(fresh.shape)} here, {list(given.shape)} in the weights"
        if by_anchor and (here := len(self.target.anchors[int(level)])) != (there := given.shape[-1] // outputs[layer]):
            return f"{here} anchors here, {there} in the weights"
        if layer == "score" and not arch.network.has_objectness and arch.classes != self.target.classes:
            return f"{self.target.classes} classes here, {arch.classes} in the weights"
        if part == "heads" and layer in ("localize", "second", "quality") and self.decoding != self.weights.decoding:
            return f"{self.decoding} here, {self.weights.decoding} in the weights"
        return None


def _replaced(tree: Any, fitting: _Fitting) -> Any:
    leaves = flat_leaves(tree).items()
    new = [jnp.asarray(fitting.array(path, np.asarray(leaf)), leaf.dtype) for path, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(tree), new)


def _with_objectness(fresh: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """Replace the rows of objectness; the last axis is (anchor, 1 + classes), objectness first."""
    anchors = fresh.shape[-1] // (1 + classes)
    rows = fresh.reshape(*fresh.shape[:-1], anchors, -1).copy()
    rows[..., 0] = given.reshape(*given.shape[:-1], anchors, -1)[..., 0]
    return rows.reshape(fresh.shape)


def _moved(path: str, levels: int, joined: int) -> str:
    """Return the path of a layer in a detector with more levels at the fine end.

    Args:
      path: Path of the layer.
      levels: Number of further levels.
      joined: Number of further levels that join the bottom-up path.
    """
    for prefix in _BY_LEVEL:
        if path.startswith(f"{prefix}/"):
            index, rest = path.removeprefix(f"{prefix}/").split("/", 1)
            return f"{prefix}/{int(index) + (levels if prefix == 'heads' else joined)}/{rest}"
    return path


def _layer(path: str) -> str:
    """Return the part of a path that names the layer: `heads/0/score`, `neck/tops/2`."""
    words = path.split("/")
    return "/".join(words[:3] if words[0] in ("heads", "neck") else words[:2])
