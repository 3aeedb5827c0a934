"""Detections in the classes of a data set, for a detector that was trained with other classes."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from data_pipeline import DataError
from ugs_jax.detectors import Detections, Outputs, Postprocess, TrainableDetector
from ugs_jax.detectors.levels import HasPyramid
from ugs_jax.objectives import Localization
from ugs_jax.runs.loaded import LoadedDetector, unnamed_classes

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenumberedDetector:
    """Detector whose detections have the class indices of a data set.

    Attributes:
      detector: Detector with its own classes.
      index: Index in the data set for each class of the detector; −1 drops the detections of a class.
    """

    detector: TrainableDetector
    index: tuple[int, ...]

    @property
    def arch(self) -> HasPyramid:
        """Anchors and strides of the levels."""
        return self.detector.arch

    @property
    def localization(self) -> Localization:
        """Localization objective."""
        return self.detector.localization

    @property
    def random(self) -> bool:
        """True if training is random."""
        return self.detector.random

    def init(self, seed: int) -> tuple[Any, Any]:
        """Return initial parameters and batch statistics of the detector."""
        return self.detector.init(seed)

    def apply(
        self, params: Any, stats: Any, images: Any, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, Any]:
        """Return the outputs of the detector, in its own classes."""
        return self.detector.apply(params, stats, images, train=train, key=key)

    def detect(self, params: Any, stats: Any, images: Any, options: Postprocess) -> Detections:
        """Return detections in px of the images, with the class indices of the data set."""
        found = self.detector.detect(params, stats, images, options)
        classes = jnp.asarray(self.index, jnp.int32)[found.classes]
        valid = found.valid & (classes >= 0)
        scores = jnp.where(valid, found.scores, 0.0)
        return found._replace(classes=jnp.maximum(classes, 0), valid=valid, scores=scores)


def with_classes(model: LoadedDetector, classes: Sequence[str]) -> LoadedDetector:
    """Return a detector whose detections have the classes of a data set, matched by name.

    Case, spaces, `-` and `_` do not matter. Detections of classes that the data set does not have are dropped. One
    warning names all classes without a counterpart. If the weights have no class names and as many classes as the data
    set, the order is taken to be the same.

    Args:
      model: Detector from `load`.
      classes: Class names of the data set.

    Raises:
      DataError: No class of the detector has the name of a class of the data set.
    """
    wanted = tuple(classes)
    if model.classes == wanted:
        return model
    if model.classes == unnamed_classes(len(wanted)):
        _logger.warning("%s has no class names; they are taken to be %s, in this order.", model.name, _listed(wanted))
        return replace(model, classes=wanted)
    places = {_plain(name): place for place, name in reversed(list(enumerate(wanted)))}
    index = tuple(places.get(_plain(name), -1) for name in model.classes)
    if set(index) == {-1}:
        raise DataError(
            f"{model.name}: expected a class of the data ({_listed(wanted[:20])}), got none among its "
            f"{len(index)} ({_listed(model.classes[:20])}). Fix: if classes differ in their names only, give those of "
            f"the data with --classes, {len(index)} names in the order of {model.name}; otherwise train on this data."
        )
    missing = [name for place, name in enumerate(wanted) if place not in index]
    unused = [name for name, place in zip(model.classes, index, strict=True) if place < 0]
    parts = [f"not known to it, so their score is 0: {_listed(missing)}"] if missing else []
    parts += [f"not in the data, so left out: {_listed(unused)}"] if unused else []
    if parts:
        known = len(wanted) - len(missing)
        _logger.warning("%s knows %d of %d classes; %s", model.name, known, len(wanted), "; ".join(parts))
    return replace(model, detector=RenumberedDetector(model.detector, index), classes=wanted)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
