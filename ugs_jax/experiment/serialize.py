"""Experiments as JSON and back, by a list of known types: nothing in a file is ever executed."""

import dataclasses
import difflib
import math
from pathlib import Path
from typing import Any

from data_pipeline import Augmentation, CocoJson, LoaderOptions, TinyScenes, VisDrone
from ugs_jax import losses
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment.config import Ema, Experiment, Network
from ugs_jax.experiment.fitting import Fitted
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.experiment.optimizer import SGD, AdamW, Schedule, Stabilize
from ugs_jax.experiment.parallel import Parallel
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Quality,
    Refinement,
    SecondStage,
    Uncertainty,
)

KNOWN_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Experiment, Network, Ema, LossWeights, AdamW, SGD, Schedule, Stabilize, LoaderOptions, Augmentation, TinyScenes,
        CocoJson, VisDrone, BoxRegression, DFL, UGS, Grid, GridPoints, FittedGrid, Uncertainty, Refinement,
        Postprocess, Parallel, Quality, SecondStage,
    )
}  # fmt: skip
_LOSSES = {name: getattr(losses, name) for name in losses.__all__}
_LOSS_NAMES = {id(loss): name for name, loss in _LOSSES.items()}


def to_json(value: Any) -> Any:
    """A config as JSON values; objects become {"type": name, field: value, …}, losses their name.

    Raises:
      ValueError: a value that could not be read back, such as a loss of the user's own.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if callable(value):
        if id(value) not in _LOSS_NAMES:
            raise ValueError(
                f"{value!r}: expected a loss of ugs_jax.losses, got another function; it has no name to save"
            )
        return {"loss": _LOSS_NAMES[id(value)]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"config: expected numbers, texts, losses or dataclasses, got {value!r}")


def from_json(value: Any, where: str = "config") -> Any:
    """The config that `to_json` wrote.

    Raises:
      ValueError: an unknown type, loss or field, with the place and the nearest known name.
    """
    if isinstance(value, list):
        return tuple(from_json(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if set(value) == {"loss"}:
        return _known(_LOSSES, value["loss"], f"{where}: a loss")
    if set(value) == {"path"}:
        return Path(value["path"])
    kind = _known(KNOWN_TYPES, value.get("type"), f'{where}: a "type"')
    names = {f.name for f in dataclasses.fields(kind)}
    arguments = {name: item for name, item in value.items() if name != "type"}
    for name in arguments:
        if name not in names:
            raise ValueError(f"{where}.{name}: no such field of {kind.__name__}{suggestion(name, names)}")
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in arguments and _is_required(f)]
    if missing:
        raise ValueError(
            f"{where}: expected all fields of {kind.__name__}, but {', '.join(missing)} are missing; add them"
        )
    return kind(**{name: from_json(item, f"{where}.{name}") for name, item in arguments.items()})


def fitted_to_json(fitted: Fitted) -> dict[str, Any]:
    """What was fitted to a data set, as JSON values."""
    return {"anchors": to_json(fitted.anchors), "fitted_localization": to_json(fitted.localization)}


def fitted_from(value: dict[str, Any], where: str = "config") -> Fitted:
    """What `fitted_to_json` wrote.

    Raises:
      ValueError: anchors that are no positive (w, h) for every level, or an objective that cannot be read.
    """
    anchors = value.get("anchors")
    try:
        read = tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors or ())
        if not read or not all(side > 0 and math.isfinite(side) for level in read for pair in level for side in pair):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'{where}: expected "anchors", a list of (width, height) in px for every level, got {anchors!r}; restore '
            "the file"
        ) from error
    return Fitted(read, from_json(value.get("fitted_localization"), f"{where}: fitted_localization"))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def suggestion(name: str, known: Any) -> str:
    """`; did you mean 'x'?`, or the list of known names."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def _known(table: dict[str, Any], name: Any, what: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{what}: expected a known name, got {name!r}{suggestion(str(name), table)}")
    return table[name]
